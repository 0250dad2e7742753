"""`voxroute live` as a process against a real service, whose engine reads words out of the sound.

So what was written can be held against what was said, word by word.
"""

import asyncio
import itertools
import os
import signal
import sys
import threading
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode

from tests.orchestrator import recordings
from tests.orchestrator.live_stand_in import (
    LiveSpeech,
    SlowTranslation,
    accepted,
    committed,
    forever,
)
from tests.orchestrator.marked import PAUSE_S, UTTERANCE_S, said, service, texts
from tests.orchestrator.stand_in import Break, abort, serving
from voxroute_orchestrator.subtitles import formats as subtitles


async def live(folder: Path, *arguments: str, stdin: int | None = None, **more: str) -> Process:
    """The command, started."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("VOXROUTE_")}
    environment |= {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder)} | more
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "voxroute_orchestrator", "live", *arguments,
        stdin=stdin, stdout=PIPE, stderr=PIPE, env=environment, cwd=folder,
    )  # fmt: skip


async def captioned(film: Path, address: str) -> tuple[Process, str]:
    """The command, writing subtitles of a film in Hindi, once it has told a line; and that line."""
    flags = ("-s", "hi", "-o", "out", "--format", "srt", "--endpoint", address)
    process = await live(film.parent, film.name, *flags)
    assert process.stdout is not None
    return process, (await asyncio.wait_for(process.stdout.readline(), 60)).decode().strip()


async def ended(process: Process, data: bytes | None = None) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    async with asyncio.timeout(120):
        out, err = await process.communicate(data)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def told(process: Process, text: str) -> None:
    """Returns once standard error has a line with the text."""
    assert process.stderr is not None
    async with asyncio.timeout(60):
        while text.encode() not in (line := await process.stderr.readline()):
            assert line, f"it has ended without {text!r}"


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Three utterances, as a file."""
    return recordings.write(tmp_path / "film.wav", said(3))


async def test_subtitles_are_what_was_committed(film: Path) -> None:
    """In the terminal, and in files of each language that are whole in the end."""
    async with service() as served, serving(translation=SlowTranslation()) as translate:
        process = await live(
            film.parent, "film.wav", "-s", "hi", "-t", "en", "-o", "out", "--as-fast-as-possible",
            "--endpoint", served.address, "--translate-endpoint", translate,
        )  # fmt: skip
        code, out, err = await ended(process)
    assert code == 0, err
    expected = texts(3)
    lines = out.splitlines()
    assert [line for line in lines if not line.startswith("en:")] == expected
    assert [line for line in lines if line.startswith("en:")] == [f"en: en:{t}" for t in expected]
    for kind in ("srt", "vtt"):
        for language, before in (("hi", ""), ("en", "en:")):
            cues = subtitles.read(film.parent / "out" / f"film.{language}.{kind}")
            shown = " ".join(cue.text.replace("\n", " ") for cue in cues)
            assert shown == " ".join(before + text for text in expected)
            assert all(a.end_ms < b.start_ms for a, b in itertools.pairwise(cues))
    assert "wrote out/film.hi.srt" in err


async def test_raw_samples_come_from_standard_input(tmp_path: Path) -> None:
    """To their end."""
    async with service() as served:
        process = await live(
            tmp_path, "-", "-s", "hi", "--endpoint", served.address, "-q", stdin=PIPE
        )
        code, out, err = await ended(process, said(2).tobytes())
    assert (code, err) == (0, "")
    assert out.splitlines() == texts(2)


@pytest.mark.parametrize(
    "begin",
    [
        b"RIFF\x24\x00\x00\x00WAVEfmt ",
        b"fLaC\x00\x00\x00\x22",
        b"\x00\x00\x00\x18ftypmp42",
        b"ID3\x04",
    ],
)
async def test_a_media_file_is_no_raw_samples(tmp_path: Path, begin: bytes) -> None:
    """Its bytes would be heard as noise."""
    async with service() as served:
        process = await live(
            tmp_path, "-", "-s", "hi", "-o", "out", "--endpoint", served.address, stdin=PIPE
        )
        code, out, err = await ended(process, begin + bytes(64_000))
    assert (code, out) == (2, "")
    assert "ffmpeg" in err
    assert not list((tmp_path / "out").glob("*.srt"))


async def test_an_interrupt_ends_it_once_all_is_told(film: Path) -> None:
    """What was played is written down, and the exit code is that of success."""
    recordings.write(film, said(20))
    async with service() as served:
        process, first = await captioned(film, served.address)
        process.send_signal(signal.SIGINT)
        code, out, err = await ended(process)
    assert code == 0, err
    assert first == texts(1)[0]
    cues = subtitles.read(film.parent / "out" / "film.hi.srt")
    written = " ".join(cue.text.replace("\n", " ") for cue in cues)
    assert written == " ".join([first, *out.splitlines()])
    assert written.count("word") < 60


async def test_a_second_interrupt_ends_it_at_once(film: Path) -> None:
    """Whatever the service does; what was settled by then is told, and in the files."""

    async def deaf(requests: Any, context: Any) -> AsyncGenerator[Any]:
        del requests, context
        yield committed("settled words")
        yield accepted()
        await forever()

    async with serving(LiveSpeech(script=deaf)) as address:
        process = await live(
            film.parent, "film.wav", "-s", "hi", "-o", "out", "--endpoint", address
        )
        for line in ("listening", "finishing"):
            await told(process, line)
            process.send_signal(signal.SIGINT)
        code, out, _ = await ended(process)
    assert (code, out) == (130, "settled words\n")
    assert "settled words" in (film.parent / "out" / "film.hi.srt").read_text()


async def test_a_service_that_refuses_amid_an_utterance_leaves_what_it_has_settled(
    film: Path,
) -> None:
    """On standard output and in the files."""

    async def refuses(requests: Any, context: Any) -> AsyncGenerator[Any]:
        del requests
        yield accepted()
        yield committed("settled words")
        await abort(context, Break(0, StatusCode.INVALID_ARGUMENT))

    async with serving(LiveSpeech(script=refuses)) as address:
        code, out, err = await ended(
            await live(film.parent, "film.wav", "-s", "hi", "-o", "out", "--endpoint", address)
        )
    assert (code, out) == (5, "settled words\n"), err
    assert "settled words" in (film.parent / "out" / "film.hi.srt").read_text()


@pytest.mark.slow  # a service has to start twice
async def test_a_service_that_comes_back_is_gone_on_with(film: Path) -> None:
    """It is told, times go on, and no word is missing or there twice."""
    recordings.write(film, said(4))
    async with service() as served:
        process, first = await captioned(film, served.address)
        await asyncio.sleep(2)  # amid the second utterance
    async with service(served.address):
        code, out, err = await ended(process)
    assert code == 0, err
    assert "it is tried again" in err
    assert "goes on at 0:" in err
    heard_words = " ".join([first, *out.splitlines()]).split()
    assert heard_words == " ".join(texts(4)).split()
    cues = subtitles.read(film.parent / "out" / "film.hi.srt")
    last_begins_s = 3 * (UTTERANCE_S + PAUSE_S)
    assert last_begins_s - 0.5 < cues[-1].start_ms / 1000 < last_begins_s + UTTERANCE_S


async def test_a_url_is_read_because_it_was_typed(film: Path) -> None:
    """A recording at an address; a playlist there opens nothing."""
    (film.parent / "list.m3u8").write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:20\n#EXTINF:16.5,\nfilm.wav\n#EXT-X-ENDLIST\n"
    )
    handler = partial(SimpleHTTPRequestHandler, directory=str(film.parent))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    base = f"http://127.0.0.1:{server.server_port}"
    try:
        async with service() as served:
            process = await live(
                film.parent, f"{base}/film.wav", "-s", "hi", "--endpoint", served.address,
                "--as-fast-as-possible",
            )  # fmt: skip
            code, out, err = await ended(process)
            assert code == 0, err
            assert out.splitlines() == texts(3)
            process = await live(
                film.parent, f"{base}/list.m3u8", "-s", "hi", "--endpoint", served.address
            )
            code, out, err = await ended(process)
            assert (code, out) == (3, ""), err
            assert "cannot be read" in err
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("source", "code", "sentence"),
    [
        ("http://user:secret@127.0.0.1:1/live", 3, "http://127.0.0.1:1/live cannot be read"),
        ("file:///etc/passwd", 2, "file:// is not read"),
        ("concat://a.wav", 2, "concat:// is not read"),
        ("http://[::1/live", 2, "http:// is followed by no address"),
        ("nothing.mkv", 3, "nothing.mkv"),
    ],
)
async def test_a_source_that_cannot_be_read_is_told(
    source: str, code: int, sentence: str, tmp_path: Path
) -> None:
    """Before any service is started, and without what is secret in an address."""
    ending, out, err = await ended(await live(tmp_path, source, "-s", "hi"))
    assert (ending, out) == (code, "")
    assert sentence in err
    assert "secret" not in err


@pytest.mark.parametrize("source", ["-", "http://127.0.0.1:1/live"])
async def test_an_option_of_media_files_is_refused_elsewhere(source: str, tmp_path: Path) -> None:
    """It would do nothing."""
    process = await live(tmp_path, source, "--channel", "1", "--audio-stream", "2", stdin=PIPE)
    code, _, err = await ended(process)
    assert code == 2
    assert "--audio-stream, --channel: only a media file has a use for it" in err


async def test_a_format_that_cannot_grow_is_refused(film: Path) -> None:
    """Before anything is heard."""
    process = await live(film.parent, "film.wav", "-o", "out", "--format", "srt,ass")
    code, _, err = await ended(process)
    assert code == 2
    assert "ass cannot be written while somebody speaks" in err


_PORTAUDIO = """
import threading, time
class PortAudioError(Exception): pass
class RawInputStream:
    def __init__(self, *, device, callback, blocksize, **_):
        if device == "broken":
            raise PortAudioError("no such device")
        self.callback, self.size = callback, 2 * blocksize
    def __enter__(self):
        threading.Thread(target=self.play, daemon=True).start()
    def __exit__(self, *_): pass
    def play(self):
        data = open("said.raw", "rb").read()
        for begin in range(0, len(data), self.size):
            self.callback(data[begin : begin + self.size], 1, None, None)
            time.sleep(0.02)
def query_devices():
    return [{"name": "headset", "max_input_channels": 1}, {"name": "out", "max_input_channels": 0}]
"""


async def test_the_microphone_is_the_default(tmp_path: Path) -> None:
    """It is captioned until Ctrl-C; one that is not there is told with those that are."""
    (tmp_path / "sounddevice.py").write_text(_PORTAUDIO)
    (tmp_path / "said.raw").write_bytes(said(2).tobytes())
    async with service() as served:
        process = await live(
            tmp_path, "-s", "hi", "--endpoint", served.address, "-q", PYTHONPATH=str(tmp_path)
        )
        assert process.stdout is not None
        for text in texts(2):
            line = await asyncio.wait_for(process.stdout.readline(), 60)
            assert line.decode().strip() == text
        process.send_signal(signal.SIGINT)
        code, out, err = await ended(process)
        assert (code, out, err) == (0, "", "")
        process = await live(
            tmp_path, "-s", "hi", "--microphone", "broken", "--endpoint", served.address,
            PYTHONPATH=str(tmp_path),
        )  # fmt: skip
        code, _, err = await ended(process)
    assert code == 3
    assert "no such device" in err
    assert "there are: 0 headset" in err


@pytest.mark.parametrize(
    ("module", "sentence"),
    [
        (
            "raise ModuleNotFoundError('no', name='sounddevice')",
            "voxroute-orchestrator[microphone]",
        ),
        ("raise OSError('PortAudio library not found')", "needs PortAudio"),
    ],
)
async def test_a_microphone_that_cannot_be_had_is_told(
    module: str, sentence: str, tmp_path: Path
) -> None:
    """With what to install."""
    (tmp_path / "sounddevice.py").write_text(module)
    code, _, err = await ended(await live(tmp_path, "-s", "hi", PYTHONPATH=str(tmp_path)))
    assert code == 2
    assert sentence in err
