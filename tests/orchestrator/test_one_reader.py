"""What is heard of a recording, and when: as bytes and as raw samples, whatever its clock."""

import io
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.serving.beeps import KINDS, PITCHES, Beep, Kind, dice, heard, recording, rewrapped
from tests.serving.recordings import Media, media
from voxroute_orchestrator.media import PcmReader, probe
from voxroute_serving.audio.decoders import ContainerDecoder, ContainerFormat

OFF_S = 0.05
BOTH_S = 0.02
# encoders begin with silence of their own and end with whole frames, which players show too
PRIMED_S = 0.03
HOLE_S = 1.3


@dataclass
class Heard:
    """The beeps, and the codes of what was told."""

    beeps: list[Beep]
    codes: set[str]
    end_s: float


def as_bytes(data: bytes) -> Heard:
    """What the service hears of a file that a client sends."""
    decoder = ContainerDecoder(ContainerFormat(), io.BytesIO(data), 1e6)
    sound = np.concatenate(list(decoder)) * 32768
    end_s = decoder.start_s + len(sound) / 16_000
    return Heard(heard(sound, decoder.start_s), {one.code for one in decoder.remarks}, end_s)


def as_samples(data: bytes, path: Path) -> Heard:
    """What the command sends of the file as raw samples."""
    path.write_bytes(data)
    reader = PcmReader(probe(path))
    sound: Any = np.frombuffer(b"".join(iter(reader.read, b"")), "<i2")
    reader.close()
    codes = {note.code for note in reader.notes}
    return Heard(heard(sound, reader.first_s), codes, reader.first_s + len(sound) / 16_000)


def score(seconds: float, rng: random.Random) -> list[Beep]:
    """Beeps at random times, none like another."""
    pitches = rng.sample(range(PITCHES), PITCHES)
    beeps: list[Beep] = []
    at_s = rng.uniform(0.3, 0.6)
    while at_s < seconds - 0.5 and pitches:
        beeps.append(Beep(at_s, pitches.pop()))
        at_s += rng.uniform(0.3, 0.8)
    return beeps


def moved(beeps: Sequence[Beep], by_s: float) -> list[Beep]:
    """The same, later."""
    return [Beep(beep.at_s + by_s, beep.pitch) for beep in beeps]


def differences(found: Sequence[Beep], wanted: Sequence[Beep], off_s: float = OFF_S) -> str:
    """What is wrong with the beeps that were heard; empty for nothing."""
    if [beep.pitch for beep in found] != [beep.pitch for beep in wanted]:
        return f"heard {found}, not {list(wanted)}"
    off = [a.at_s - b.at_s for a, b in zip(found, wanted, strict=True)]
    return f"off by {off}" if max(map(abs, off), default=0.0) > off_s else ""


def check(data: bytes, wanted: Sequence[Beep], path: Path, off_s: float = OFF_S) -> Heard:
    """That both ways hear what is wanted, at the same times; what was told."""
    first, second = as_bytes(data), as_samples(data, path)
    assert not differences(first.beeps, wanted, off_s)
    assert not differences(second.beeps, wanted, off_s)
    assert not differences(first.beeps, second.beeps, BOTH_S)
    assert first.codes == second.codes
    return second


@dataclass
class Scene:
    """A file, and what is to be heard of it."""

    data: bytes
    wanted: list[Beep]
    joined: bool
    holes: int


def scene(kind: Kind, rng: random.Random, most_parts: int) -> Scene:
    """Some recordings, each with a clock and a hole of its own, one behind the other."""
    data, wanted, end_s, n_holes = b"", list[Beep](), 0.0, 0
    n_parts = rng.randint(1, most_parts) if kind.joins else 1
    for number in range(n_parts):
        seconds = rng.uniform(3.0, 1.5 + 1.5 * most_parts)
        beeps = score(seconds, rng)
        # the steps of a joined clock: to a zero again, back, forth
        shifts = kind.keeps_clock and kind.shifts
        start_s = rng.choice((0.0, 0.7, 61.3, 3600.0, 80_000.0)) if shifts else 0.0
        holes = list[tuple[float, float]]()
        if kind.keeps_clock and kind.holes and rng.random() < 0.5:
            at_s = rng.uniform(1.0, seconds - 1.8)
            holes.append((at_s, at_s + HOLE_S))
            beeps = [one for one in beeps if not at_s - 0.2 < one.at_s < at_s + HOLE_S + 0.1]
        n_holes += len(holes)
        other = rng.random() < 0.5 and kind.container not in {"mpegts", "vob"}
        layout = {"mono": "stereo", "stereo": "mono"}[kind.layout] if other else kind.layout
        one = recording(replace(kind, layout=layout), seconds, beeps, start_s=start_s, holes=holes)
        if not number and not kind.from_zero and kind.keeps_clock:
            end_s = start_s
        data += one
        wanted += moved(beeps, end_s)
        end_s += as_bytes(one).end_s - (start_s if not kind.from_zero and kind.keeps_clock else 0)
    return Scene(data, wanted, n_parts > 1, n_holes)


def play(kind: Kind, rng: random.Random, folder: Path, most_parts: int = 3) -> None:
    """Holds a scene against both ways."""
    made = scene(kind, rng, most_parts)
    told = check(made.data, made.wanted, folder / f"film{kind.suffix}", OFF_S)
    if made.holes:
        assert "AUDIO_GAP" in told.codes
    if made.joined and kind.keeps_clock:
        assert "JOINED_MEDIA" in told.codes
    assert not told.codes - {"AUDIO_GAP", "JOINED_MEDIA"}


@pytest.mark.parametrize("name", KINDS)
def test_every_beep_is_heard_once_and_in_time(name: str, tmp_path: Path) -> None:
    """Joined, cut, shifted: in each container, whichever way the sound goes to the service."""
    play(KINDS[name], dice(name), tmp_path, most_parts=2)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_every_beep_is_heard_once_and_in_time_at_length(name: str, tmp_path: Path) -> None:
    """The same, forty times each."""
    for seed in range(40):
        play(KINDS[name], dice(f"{name} {seed}"), tmp_path)


def pitch_hz(second: Any) -> int:
    """The loudest frequency of a second of sound."""
    return int(np.abs(np.fft.rfft(second)).argmax())


@pytest.mark.parametrize("seconds", [3.0, 8.0])
def test_sound_that_goes_on_under_another_number_is_heard(seconds: float, tmp_path: Path) -> None:
    """In a short recording FFmpeg knows the number from the start, but not its sound."""
    kind = Media("mpegts", "aac", seconds=seconds, tones_hz=[440.0])
    later = replace(kind, tones_hz=[880.0], options={"mpegts_start_pid": "0x300"})
    data = media(kind) + media(later)
    path = tmp_path / "film.ts"
    path.write_bytes(data)
    reader = PcmReader(probe(path))
    sent: Any = np.frombuffer(b"".join(iter(reader.read, b"")), "<i2") / 32768
    decoder = ContainerDecoder(ContainerFormat(), io.BytesIO(data), 1e6)
    for sound in (sent, np.concatenate(list(decoder))):
        assert len(sound) / 16_000 == pytest.approx(2 * seconds, abs=0.2)
        assert pitch_hz(sound[16_000:32_000]) == 440
        assert pitch_hz(sound[-32_000:-16_000]) == 880


REWRAPS = [
    ("ts-aac", "mkv"), ("ts-aac", "flv"), ("mp4", "ts-aac"), ("mp4", "mkv"), ("mkv", "mp4"),
    ("flv", "mp4"), ("flv", "ts-aac"), ("webm", "ogg-opus"), ("ogg-opus", "webm"),
    ("ts-mp2", "vob"), ("vob", "mkv"), ("mp3", "avi"), ("flv-mp3", "mp3"), ("flac", "ogg-flac"),
    ("mov", "wav"), ("wav", "caf"), ("adts", "mp4"), ("ac3", "ts-mp2"),
]  # fmt: skip


@pytest.mark.parametrize(("first", "second"), REWRAPS)
def test_another_container_changes_no_times(first: str, second: str, tmp_path: Path) -> None:
    """The packets of one in another, whose clock begins elsewhere, or has roundings of its own."""
    beeps = score(5.0, dice(first))
    data = rewrapped(recording(KINDS[first], 5.0, beeps), KINDS[second])
    told = check(data, beeps, tmp_path / f"film{KINDS[second].suffix}")
    assert not told.codes
