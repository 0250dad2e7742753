"""Recordings of two kinds in one file, and what else stands behind a recording."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from tests.orchestrator.test_one_reader import as_bytes, as_samples, check, moved, score
from tests.serving.beeps import KINDS, Beep, dice, recording
from tests.serving.recordings import Media, media

SECONDS = 4.0
# those whose demuxers read all that follows as more of the same stream
UNENDED = {"ts-aac", "ts-mp2", "ts-opus", "vob", "ac3"}
ENDED = [name for name in KINDS if name not in UNENDED]

ID3V2 = b"ID3\x04\x00\x00\x00\x00\x0f\x76TIT2\x00\x00\x00\x06\x00\x00\x00Title" + bytes(2023)
TRAILERS = {
    "ID3v1": b"TAG" + b"Title".ljust(125, b" "),
    "ID3v2": ID3V2,
    "ID3v2 with a picture": b"ID3\x04\x00\x00\x00\x0c\x00\x00APIC"
    + random.Random(1).randbytes(200_000),  # noqa: S311 - no secret
    "APE": b"APETAGEX" + (2000).to_bytes(4, "little") * 2 + bytes(16) + b"Title\0" * 200,
    "zeros": bytes(100_000),
    "LIST": b"LIST\x1a\x00\x00\x00INFOISFT\x0e\x00\x00\x00Lavf62.12.102\x00",
    "free": b"\x00\x00\x03\xe8free" + bytes(992),
    "a checksum": b"d41d8cd98f00b204e9800998ecf8427e  film\n",
}


@pytest.mark.parametrize("first", ENDED)
def test_a_recording_behind_one_of_another_kind_is_heard(first: str, tmp_path: Path) -> None:
    """Whatever it is, in order, both ways, and it is told."""
    rng = dice(f"behind {first}")
    second = rng.choice([name for name in ENDED if name != first])
    beeps, more = score(SECONDS, rng), score(SECONDS, rng)
    one, two = (recording(KINDS[name], SECONDS, b) for name, b in ((first, beeps), (second, more)))
    wanted = [*beeps, *moved(more, as_bytes(one).end_s)]
    padding = rng.choice((b"", bytes(512), TRAILERS["ID3v1"]))
    told = check(one + padding + two, wanted, tmp_path / f"film{KINDS[first].suffix}", 0.06)
    assert told.codes == {"JOINED_MEDIA"}, second


@pytest.mark.parametrize("second", ["mp3", "adts"])
def test_frames_without_a_head_are_heard_behind_a_recording(second: str, tmp_path: Path) -> None:
    """Streams that were recorded have neither tags nor a frame that tells their length."""
    options = {"write_xing": "0", "id3v2_version": "0", "write_id3v1": "0"}
    kind = replace(KINDS[second], options=options if second == "mp3" else {})
    rng = dice(second)
    beeps, more = score(SECONDS, rng), score(SECONDS, rng)
    one, two = recording(KINDS["aiff"], SECONDS, beeps), recording(kind, SECONDS, more)
    told = check(one + two, [*beeps, *moved(more, SECONDS)], tmp_path / "film.aiff", 0.06)
    assert told.codes == {"JOINED_MEDIA"}


def test_recordings_of_a_telephone_are_joined_without_damage(tmp_path: Path) -> None:
    """The head of a second AMR file is no packet."""
    one = media(
        Media(
            "amr", "libopencore_amrnb", rate=8000, layout="mono", seconds=SECONDS, tones_hz=[700.0]
        )
    )
    heard = as_bytes(one + one), as_samples(one + one, tmp_path / "memo.amr")
    for told in heard:
        assert told.codes == {"JOINED_MEDIA"}
        assert told.end_s == pytest.approx(2 * SECONDS, abs=0.1)


@pytest.mark.parametrize("name", KINDS)
def test_what_programs_leave_behind_a_recording_is_not_told(name: str, tmp_path: Path) -> None:
    """Tags, padding, a chunk, a checksum: no other recording, and nothing is lost."""
    beeps = [Beep(0.4, 5), Beep(1.1, 9), Beep(1.7, 30)]
    one = recording(KINDS[name], 2.5, beeps)
    raw = name in {*UNENDED, "adts", "mp3"}  # FFmpeg looks for more of the stream in what follows
    for trailer in (b"", *({} if raw else TRAILERS).values()):
        told = check(one + trailer, beeps, tmp_path / f"film{KINDS[name].suffix}")
        assert not told.codes, trailer[:8]


@pytest.mark.parametrize("name", ["wav", "aiff", "w64", "caf", "mp4", "mkv", "au", "ogg-opus"])
def test_what_is_no_known_recording_is_told_where_it_is_long(name: str, tmp_path: Path) -> None:
    """Bytes that nobody reads might be speech."""
    beeps = [Beep(0.4, 5), Beep(1.1, 9), Beep(1.7, 30)]
    rest = random.Random(2).randbytes(100_000)  # noqa: S311 - no secret
    told = check(
        recording(KINDS[name], 2.5, beeps) + rest, beeps, tmp_path / f"film{KINDS[name].suffix}"
    )
    assert told.codes == {"UNREAD_MEDIA"}
