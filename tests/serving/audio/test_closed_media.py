"""What a client's bytes can have opened: nothing, whatever they say."""

import io
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving import traps
from tests.serving.recordings import Media, media
from tests.serving.traps import laid
from voxroute_serving.audio.decoders import ContainerDecoder, ContainerFormat
from voxroute_serving.audio.media import (
    MAX_SAMPLE_RATE,
    MIN_SAMPLE_RATE,
    MediaFile,
    MediaRefusedError,
)
from voxroute_serving.errors import InvalidAudioError

__all__ = ["laid"]

ROOT = Path(__file__).resolve().parents[3]


def _decode(data: bytes) -> float:
    """Seconds of sound."""
    decoder = ContainerDecoder(ContainerFormat(), io.BytesIO(data), 3600.0)
    return sum(map(len, decoder)) / 16_000


def test_the_witness_sees_openings_of_other_processes_and_of_c_code(laid: traps.Traps) -> None:
    """What the tests below rely on."""
    with traps.Witness(laid.secrets) as witness:
        subprocess.run(["cat", laid.secrets[0]], check=True, stdout=subprocess.DEVNULL)
        assert witness.opened() == [str(laid.secrets[0])]
        assert witness.opened() == []


def test_no_bytes_of_a_client_open_a_file_or_a_connection(laid: traps.Traps) -> None:
    """Playlists, descriptions and references in containers: refused, or read without them.

    A film whose samples are said to be elsewhere is decoded from its own bytes.
    """
    asked: list[str] = []
    listening = True

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if listening and event in {"open", "socket.connect"} and "secret" in str(arguments):
            asked.append(f"{event}: {arguments}")

    sys.addaudithook(hook)
    wrong = traps.wrongly_used(
        laid, lambda name: _decode((laid.folder / name).read_bytes()), InvalidAudioError
    )
    listening = False
    assert not wrong
    assert not asked
    assert not laid.connected()


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_the_kernel_sees_no_opening_either(laid: traps.Traps, tmp_path: Path) -> None:
    """The same in a process of its own, by its system calls."""
    script = (
        "import io, sys\n"
        "from voxroute_serving.audio.decoders import ContainerDecoder, ContainerFormat\n"
        "from voxroute_serving.errors import InvalidAudioError\n"
        "for line in sys.stdin:\n"
        "    source = io.BytesIO(bytes.fromhex(line))\n"
        "    try:\n        list(ContainerDecoder(ContainerFormat(), source, 60.0))\n"
        "    except InvalidAudioError:\n        pass\n"
    )
    log = tmp_path / "calls"
    data = "\n".join((laid.folder / name).read_bytes().hex() for name in laid.names)
    command = [sys.executable, "-c", script]
    traced = ["strace", "-f", "-o", log, "-e", "trace=open,openat,connect", *command]
    subprocess.run(traced, input=data, text=True, check=True, cwd=ROOT)
    calls = log.read_text()
    assert "openat(" in calls
    assert str(laid.folder.parent) not in calls
    assert "sin_port" not in calls


@pytest.mark.parametrize(
    ("rate", "taken"),
    [(1, False), (4_000, False), (8_000, True), (384_000, True), (768_000, False)],
)
def test_sample_rates_are_bounded_in_containers_too(rate: int, taken: bool) -> None:  # noqa: FBT001
    """A file that claims a sample a second would be hours of work for a few bytes."""
    data = bytearray(media(Media("wav", "pcm_s16le", rate=16_000, layout="mono", seconds=2.0)))
    data[24:28] = rate.to_bytes(4, "little")
    if taken:
        assert _decode(bytes(data)) == pytest.approx(32_000 / rate, abs=0.1)
        return
    with pytest.raises(InvalidAudioError, match=f"{MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE}"):
        _decode(bytes(data))


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    """A pipe without a writer, a folder, a device: refused at once, none of them is waited for."""
    pipe = tmp_path / "film.mp4"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path, Path("/dev/zero")):
        with pytest.raises(MediaRefusedError, match="regular file"):
            MediaFile(path)


def test_a_file_that_grows_ends_where_it_ended(tmp_path: Path) -> None:
    """Who appends to a file while it is read does not make the read go on for ever."""
    path = tmp_path / "a.wav"
    path.write_bytes(b"12345")
    file = MediaFile(path)
    with path.open("ab") as more:
        more.write(b"67890")
    assert file.read(100) == b"12345"
    assert file.read(100) == b""
    assert file.seek(0, os.SEEK_END) == 5
    file.close()


NOISE = """
import av, io, sys
from voxroute_serving.telemetry.logs import set_up_logs
set_up_logs(sys.argv[1], "json")
av.logging.set_level(av.logging.ERROR)
import logging
logging.getLogger("libav.mov").error("moov atom not found")
"""


@pytest.mark.parametrize(("level", "told"), [("info", False), ("debug", True)])
def test_what_ffmpeg_says_of_a_file_is_no_error_of_the_service(level: str, told: bool) -> None:  # noqa: FBT001
    """Its lines are there at debug, as lines of that level."""
    done = subprocess.run(
        [sys.executable, "-c", NOISE, level], check=True, capture_output=True, text=True
    )
    assert ("moov atom" in done.stderr) == told
    assert '"error"' not in done.stderr
    assert logging.getLevelName(logging.DEBUG).lower() in done.stderr or not told
