"""What a media file begins with, wherever in other bytes it begins."""

import re
from collections.abc import Iterator

XING_OFFSETS = (36, 21, 13)  # from an mp3 frame's start, by its version and channels
SIGNATURE_BYTES = 64  # more than any signature
FRAMES_BYTES = 1 << 14  # more than the frames that are looked at where raw ones may begin
UNREAD_TOLD_BYTES = 1 << 16  # behind a recording; less is what programs leave there

_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_W64 = bytes.fromhex("726966662e91cf11a5d628db04c10000")
# What each begins with, how far behind its start that is, and all that is looked at.
_FILES = [
    (mark, offset, re.compile(whole, re.DOTALL))
    for mark, offset, whole in (
        (b"RIFF", 0, rb"RIFF.{4}(?:WAVE|AVI )"),
        (b"RF64", 0, rb"RF64.{4}WAVEds64"),
        (b"FORM", 0, rb"FORM.{4}AIF[FC]"),
        (_W64, 0, re.escape(_W64)),
        (b"caff", 0, rb"caff\x00\x01\x00\x00desc"),
        (b".snd", 0, rb"\.snd\x00\x00[\x00-\x0f].{5}\x00\x00\x00[\x01-\x1b]"),
        (b"fLaC", 0, rb"fLaC[\x00\x80]\x00\x00\x22"),
        (b"TTA1", 0, rb"TTA1[\x01\x02]\x00.\x00.\x00"),
        (b"wvpk", 0, rb"wvpk.{3}\x00.\x04.{6}\x00{4}"),
        (b"OggS", 0, rb"OggS\x00[\x02\x06]\x00{8}"),
        (b"ftyp", 4, rb"\x00\x00..ftyp[ -~]{4}"),
        (b"\x1a\x45\xdf\xa3", 0, rb"\x1a\x45\xdf\xa3.{1,40}\x42\x82.(?:webm|matroska)"),
        (_ASF, 0, re.escape(_ASF)),
        (b"FLV\x01", 0, rb"FLV\x01[\x01\x04\x05]\x00\x00\x00\x09\x00\x00\x00\x00"),
        (b"#!AMR", 0, rb"#!AMR(?:-WB)?\n"),
    )
]
_LENGTHS = (b"Xing", b"Info")  # of an mp3
_MARKS = (*(mark for mark, _, _ in _FILES), *_LENGTHS)
_MUCH_BYTES = 1 << 18
_TAGS = (b"ID3", b"3DI", b"TAG", b"APETAGEX", b"LYRICS")
_ID3V1_BYTES = 128
_APE_HEADER_BYTES = 32
MAX_TAG_BYTES = 1 << 22  # with pictures
ID3_HEADER_BYTES = 10
_FRAMES = 4  # in a row
_MPEG_KBITS = (
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),  # of MPEG 2, layer 3
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
)
_MPEG_HZ = (44_100, 48_000, 32_000)


def next_file(data: bytes, at: int) -> int:
    """Where from `at` on the next media file begins in `data`, or -1."""
    for place in _places(data, at):
        begin = _mp3_at(data, place, at)
        if begin >= 0:
            return begin
        for mark, offset, whole in _FILES:
            begin = place - offset
            if begin >= at and data.startswith(mark, place) and whole.match(data, begin):
                return begin
    return -1


def _places(data: bytes, at: int) -> Iterator[int]:
    """Where one of the marks may stand, in order; in much, by their first four bytes.

    Of the pairs of bytes at even places a mark holds its first two, or its second and third, which
    few pairs are. A search for each mark takes 8 ms for a megabyte, and numpy 1; but loading that
    takes 200.
    """
    if len(data) < _MUCH_BYTES:
        yield from sorted(place for mark in _MARKS for place in _found(mark, data, at))
        return
    import numpy as np  # noqa: PLC0415 - see above

    holds = np.zeros(1 << 16, bool)
    for mark in _MARKS:
        holds[[int.from_bytes(mark[i : i + 2], "little") for i in (0, 1)]] = True
    hits = 2 * np.flatnonzero(holds[np.frombuffer(data, "<u2", len(data) // 2)])
    places = np.stack([hits - 1, hits], axis=1).reshape(-1)
    places = places[(places >= at) & (places + 4 <= len(data))]
    each = np.frombuffer(data, np.uint8)
    begins = [each[places + i].astype(np.uint32) << (8 * i) for i in range(4)]
    marks = [int.from_bytes(mark[:4], "little") for mark in _MARKS]
    yield from places[np.isin(sum(begins), marks)].tolist()


def _found(mark: bytes, data: bytes, at: int) -> Iterator[int]:
    while (at := data.find(mark, at)) >= 0:
        yield at
        at += 1


def is_tag(data: bytes) -> bool:
    """Whether what players show of a recording begins here; it has no sound."""
    return data.startswith(_TAGS)


def without_tags(data: bytes) -> bytes:
    """What is behind zeros and tags at the start; those that an mp3 begins with (ID3v2) stay."""
    while True:
        data = data.lstrip(b"\0")
        if data.startswith(b"TAG"):
            data = data[_ID3V1_BYTES:]
        elif data.startswith(b"APETAGEX"):
            data = data[_APE_HEADER_BYTES + int.from_bytes(data[12:16], "little") :]
        else:
            return data


def is_raw(data: bytes) -> bool:
    """Whether frames of MPEG audio begin here, without a file's head; perhaps behind tags."""
    at = id3_bytes(data)
    for _ in range(_FRAMES):
        length = _frame_bytes(data[at : at + 6])
        if not length:
            return False
        at += length
    return True


def is_adts(data: bytes | bytearray) -> bool:
    """Whether a frame of raw AAC begins here."""
    return _frame_bytes(data[:6]) > 0 and data[1] & 0xF6 == 0xF0  # noqa: PLR2004 - its layer is 0


def may_be_frame(data: bytes) -> bool:
    """Whether what FFmpeg took for an mp3's last frame, and cannot decode, may hold sound.

    It takes all that stands behind the last one for it: tags, zeros, chunks of another format.
    """
    content = data.lstrip(b"\0")
    return _frame_bytes(content[:6]) > 0 or (len(data) >= UNREAD_TOLD_BYTES and not is_tag(content))


def id3_bytes(head: bytes | bytearray) -> int:
    """The length of the ID3v2 tag at the start of an mp3, 0 for none."""
    if head[:3] != b"ID3" or len(head) < ID3_HEADER_BYTES:
        return 0
    size = 0
    for seven_bits in head[6:10]:
        size = size << 7 | seven_bits & 0x7F
    return size + ID3_HEADER_BYTES


def tags_at(data: bytes, end: int) -> int:
    """Where the last tags of an mp3 before `end` begin, or -1."""
    at = data.rfind(b"ID3", 0, end)
    return at if at >= 0 and 0 < id3_bytes(data[at : at + 10]) <= MAX_TAG_BYTES else -1


def _mp3_at(data: bytes, tag: int, at: int) -> int:
    """Where an mp3 begins whose first frame tells its length at `tag`, or -1."""
    flags = data[tag + 4 : tag + 8]
    if not data.startswith(_LENGTHS, tag) or flags[:3] != bytes(3) or flags[3:] > b"\x0f":
        return -1
    for offset in XING_OFFSETS:
        begin = tag - offset
        if begin >= at and data[begin] == 0xFF and data[begin + 1] >= 0xE0:  # noqa: PLR2004 - its sync bits
            tags = tags_at(data, begin) if begin > 0 else -1
            return tags if tags >= at and begin - tags == id3_bytes(data[tags:]) else begin
    return -1


def _frame_bytes(header: bytes | bytearray) -> int:
    """The length of an ADTS frame or of one of an mp3, by its header; 0 where it is none."""
    if len(header) < 6 or header[0] != 0xFF or header[1] < 0xE2:  # noqa: PLR2004 - its sync bits
        return 0
    if header[1] & 0xF6 == 0xF0:  # noqa: PLR2004 - ADTS
        return (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
    version, layer = header[1] >> 3 & 3, header[1] >> 1 & 3
    kbits, rate = header[2] >> 4, header[2] >> 2 & 3
    if layer != 1 or version == 1 or not 0 < kbits < 15 or rate == 3:  # noqa: PLR2004 - reserved
        return 0
    first = version == 3  # noqa: PLR2004 - MPEG 1; else 2, and 0 for 2.5
    hz = _MPEG_HZ[rate] >> (0 if first else 1 if version else 2)
    return (144 if first else 72) * 1000 * _MPEG_KBITS[first][kbits] // hz + (header[2] >> 1 & 1)
