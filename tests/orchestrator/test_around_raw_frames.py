"""What programs put before and behind raw frames of MP3 and AAC: nothing of it is sound."""

from pathlib import Path

import pytest

from tests.orchestrator.test_one_reader import as_bytes, as_samples
from tests.serving.recordings import Media, media

SECONDS = 6.0


def _tag(n_bytes: int) -> bytes:
    """An ID3v2 tag with a title of so many bytes."""
    size = bytes(n_bytes >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x03\x00\x00" + size + b"TIT2" + (n_bytes - 4) * b"A"


@pytest.mark.parametrize("xing", ["0", "1"])
@pytest.mark.parametrize(
    "behind",
    [_tag(300), _tag(2000), bytes(5000), bytes(900) + _tag(2000), b"LIST\x10\0\0\0INFO" * 40],
    ids=["tag", "long tag", "zeros", "zeros and tag", "chunk"],
)
def test_what_stands_behind_an_mp3_is_no_damage(xing: str, behind: bytes, tmp_path: Path) -> None:
    """FFmpeg takes it for a last frame, which cannot be decoded; nothing is lost."""
    options = {"write_xing": xing, "id3v2_version": "0"}
    data = media(Media("mp3", "libmp3lame", 44_100, "mono", SECONDS, options=options)) + behind
    for heard in (as_bytes(data), as_samples(data, tmp_path / "film.mp3")):
        assert not heard.codes
        assert heard.end_s == pytest.approx(SECONDS, abs=0.1)


def test_much_behind_an_mp3_that_is_not_known_is_told(tmp_path: Path) -> None:
    """So much that is neither a tag nor zeros may have been frames."""
    options = {"write_xing": "0", "id3v2_version": "0"}
    data = media(Media("mp3", "libmp3lame", 44_100, "mono", SECONDS, options=options))
    data += b"\x55" * 100_000
    for heard in (as_bytes(data), as_samples(data, tmp_path / "film.mp3")):
        assert heard.codes & {"DAMAGED_AUDIO", "UNREAD_MEDIA"}


@pytest.mark.parametrize("n_bytes", [20, 300, 70_000, 2_000_000])
def test_raw_aac_behind_a_tag_is_heard(n_bytes: int, tmp_path: Path) -> None:
    """However long the tag is; players write one with a picture."""
    data = _tag(n_bytes) + media(Media("adts", "aac", 44_100, "mono", SECONDS))
    for heard in (as_bytes(data), as_samples(data, tmp_path / "film.aac")):
        assert not heard.codes
        assert heard.end_s == pytest.approx(SECONDS, abs=0.1)
