"""Whatever the file: a result, or a sentence that a person can act on."""

import io
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import av
import av.error
import pytest

from tests.serving.beeps import KINDS, Beep, Kind, dice, recording
from voxroute_orchestrator.errors import VoxrouteError
from voxroute_orchestrator.media import PcmReader, Source, probe, tracks_of
from voxroute_serving.audio.decoders import ContainerDecoder, ContainerFormat
from voxroute_serving.errors import ServingError

LONGEST_S = 120.0
ODD_TEXTS = (
    "Director's commentary",
    "日本語 \u202eoidua", "a\nb\tc", "\x1b[31mred\x1b[0m", "%s %n {0} $(id)",
    "x" * 200, "\ufeff", "ÄÖÜ\u0301", "🎙️" * 40, "../../etc", "<i>&amp;", "und", "",
)  # fmt: skip
ODD_LANGUAGES = ("eng", "zxx", "qaa", "xx-YY-zz", "e\nn", "日本", "english (US)", "und", "mul", "")
INPUTS = 1000


def _named(kind: Kind, rng: random.Random) -> bytes:
    """The recording with several tracks, whose names are what people and programs write."""
    file = io.BytesIO()
    with av.open(file, "w", format=kind.container, options=kind.options) as container:
        for key in ("title", "artist", "comment"):
            container.metadata[key] = rng.choice(ODD_TEXTS)
        streams = [
            cast("Any", container).add_stream(kind.codec, rate=kind.rate, layout=kind.layout)
            for _ in range(rng.choice((1, 2, 3)))
        ]
        for stream in streams:
            stream.metadata["language"] = rng.choice(ODD_LANGUAGES)
            stream.metadata["title"] = rng.choice(ODD_TEXTS)
            frame = av.AudioFrame(format="fltp", layout=kind.layout, samples=1024)
            frame.sample_rate, frame.pts = kind.rate, 0
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
            container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    return file.getvalue()


def _flipped(data: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 3, 30, 300))):
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def _holed(data: bytes, rng: random.Random) -> bytes:
    begin = rng.randrange(len(data))
    end = min(len(data), begin + rng.choice((10, 1000, 20_000)))
    return data[:begin] + rng.choice((b"", bytes(end - begin))) + data[end:]


def _damages() -> list[Callable[[bytes, random.Random], bytes]]:
    return [
        lambda data, rng: data[: rng.randrange(len(data))],
        lambda data, rng: data[rng.randrange(len(data)) :],
        _flipped,
        _flipped,
        _holed,
        lambda data, rng: data + data[rng.randrange(len(data)) :],
        lambda data, rng: _flipped(data[: len(data) * 2 // 3], rng),
    ]


class Inputs:
    """Files, each damaged in its own way."""

    def __init__(self) -> None:
        beeps = [Beep(0.4, 3), Beep(1.1, 9)]
        self._whole = {name: recording(kind, 2.0, beeps) for name, kind in KINDS.items()}

    def make(self, number: int) -> tuple[str, bytes]:
        """The suffix and bytes of one."""
        rng = dice(number)
        name = rng.choice(list(KINDS))
        kind = KINDS[name]
        if rng.random() < 0.25 and kind.container in {"matroska", "mp4", "mov", "mpegts", "webm"}:
            try:
                data = _named(kind, rng)
            except av.error.FFmpegError:  # a muxer that does not take such names
                data = self._whole[name]
        elif rng.random() < 0.1:
            data = self._whole[name] + self._whole[rng.choice(list(KINDS))]
        else:
            data = rng.choice(_damages())(self._whole[name], rng)
        return kind.suffix, data


def _is_sentence(text: str) -> bool:
    return len(text) > 10 and "\n" not in text and not re.search(r"Error\(|0x[0-9a-f]{6}", text)


def _as_samples(path: Path) -> None:
    """Reads it as the command does. Raises VoxrouteError."""
    source = Source(path)
    for track in tracks_of(source):
        assert "\n" not in str(track)
        assert "\x1b" not in str(track)
    reader = PcmReader(probe(source, language="en"), max_s=LONGEST_S)
    try:
        while reader.read():
            pass
        assert all(_is_sentence(note.message) for note in reader.notes)
    finally:
        reader.close()


def _as_bytes(data: bytes) -> None:
    """Reads it as a service does. Raises ServingError."""
    for _ in ContainerDecoder(ContainerFormat(), io.BytesIO(data), LONGEST_S):
        pass


def _refusal(read: Callable[[Any], None], what: bytes | Path) -> str | None:
    try:
        read(what)
    except (VoxrouteError, ServingError) as error:
        return str(error)
    return None


def _play(numbers: range, folder: Path) -> None:
    inputs = Inputs()
    for number in numbers:
        suffix, data = inputs.make(number)
        path = folder / f"{number}{suffix}"
        path.write_bytes(data)
        for told in (_refusal(_as_samples, path), _refusal(_as_bytes, data)):
            assert told is None or _is_sentence(told), number
        path.unlink()


def test_damaged_files_end_in_a_result_or_a_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Cut, flipped, joined, oddly named: never another exception, nor a traceback on the way."""
    _play(range(50), tmp_path)
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.slow
def test_a_thousand_damaged_files_end_in_a_result_or_a_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The same, of more."""
    _play(range(100, 100 + INPUTS), tmp_path)
    assert "Traceback" not in "".join(capfd.readouterr())
