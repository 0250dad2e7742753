"""The outer structure of media files: what of them is missing, and where another one begins.

FFmpeg reads a file that was cut off to its last whole packet and reports a normal end; only the
lengths that the file itself tells show that something is missing. And of recordings that were
joined by writing one file behind the other it reads the first one only, in most formats.
"""

import re
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Seekable(Protocol):
    """A file."""

    def read(self, n: int, /) -> bytes:
        """At most `n` bytes."""
        ...

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Moves to an offset."""
        ...


class Structure:
    """Follows a media file as its bytes go by, up to where another one begins behind it."""

    def __init__(self) -> None:
        self.n_bytes = 0
        self.boxes: list[bytes] = []  # top-level boxes of an mp4, each type once, in order
        self.ended = False
        """Whether another file begins here."""
        self._head = bytearray()  # enough for the headers of RIFF, Matroska and mp3
        self._id3_bytes = 0  # length of the tags before an mp3's first frame
        self._frame = bytearray()  # the first frame behind such tags
        self._header = bytearray()
        self._body_left = 0
        self._began = False  # whether an Ogg file's first pages are over
        self._kind = b""  # of what a RIFF file holds
        self._parse: Callable[[], int | None] | None = self._first
        self._signature: Callable[[bytes, int], int] | None = None

    def take(self, data: bytes, *, last: bool = False) -> int:
        """How many of the next bytes belong to this file.

        Fewer than all where another begins, or where that cannot be told before more are there:
        offer the rest again, with what follows it. `last` where nothing follows.
        """
        n_taken = len(data) if self._signature is not None else self._walk(data)
        if self._signature is not None:
            if not self.n_bytes:
                self._id3_bytes = _id3_bytes(data)
            own_bytes = self._id3_bytes + _HEAD_BYTES if self._signature is _next_mp3 else 1
            found = self._signature(data, max(0, own_bytes - self.n_bytes))
            if found >= 0:
                n_taken, self.ended = found, True
            elif not last:
                n_taken = max(0, n_taken - _SIGNATURE_BYTES)
                tags = _tags_at(data, n_taken) if self._signature is _next_mp3 else -1
                if tags > 0 and tags + _id3_bytes(data[tags:]) >= n_taken:
                    n_taken = tags  # they may be another file's
        if last and not self.ended:
            n_taken = len(data)
        self._see(data[:n_taken])
        return n_taken

    @property
    def body_left(self) -> int:
        """Bytes that follow of which nothing need be seen; they may be skipped."""
        return self._body_left if self._parse is not None else 0

    @property
    def searches(self) -> bool:
        """Whether another file's start can be anywhere."""
        return self._signature is not None

    @property
    def is_walked(self) -> bool:
        """Whether anything that follows could be another file's start."""
        return self._parse is not None or self._signature is not None

    def skip(self, n_bytes: int) -> None:
        """Counts bytes of the body that were not seen."""
        self._body_left -= n_bytes
        self.n_bytes += n_bytes

    @property
    def tags_before_frame(self) -> int:
        """Bytes of tags before an mp3's first frame, where that has not been seen."""
        return 0 if self._frame else self._id3_bytes

    def see_frame(self, frame: bytes) -> None:
        """Takes the start of an mp3's first frame."""
        self._frame += frame

    def _see(self, data: bytes) -> None:
        if len(self._head) < _HEAD_BYTES:
            self._head += data[: _HEAD_BYTES - len(self._head)]
            self._id3_bytes = _id3_bytes(self._head)
        if self._id3_bytes and len(self._frame) < _XING_FRAME_BYTES:
            self._frame += data[max(0, self._id3_bytes - self.n_bytes) :][:_XING_FRAME_BYTES]
        self.n_bytes += len(data)

    def _walk(self, data: bytes) -> int:
        """Walks from header to header; how many bytes are in units whose headers are whole."""
        at = unit = 0
        while self._parse is not None and at < len(data):
            if self._body_left:
                step = min(self._body_left, len(data) - at)
                self._body_left -= step
                at += step
                unit = at
                continue
            self._header.append(data[at])
            at += 1
            body = self._parse()
            if self.ended:
                return unit
            if body is not None:
                self._header.clear()
                self._body_left = body
                unit = at
        if self._parse is None:
            return len(data)
        self._header.clear()  # of a header that is not whole: it is offered again
        return unit

    @property
    def may_be_mp4(self) -> bool:
        """Whether top-level boxes may still follow."""
        return self._parse in (self._first, self._box)

    def missing(self) -> str | None:
        """What is missing at the end, as a clause, or None."""
        declared = (
            _riff_bytes(self._head)
            or _matroska_bytes(self._head)
            or _mp3_bytes(self._frame if self._id3_bytes else self._head, self._id3_bytes)
        )
        if declared is not None and self.n_bytes < declared:
            return f"it ends after {self.n_bytes} of its {declared} bytes"
        if self._parse is not None and self._body_left:
            return f"{self._body_left} bytes are missing at its end"
        if b"mdat" in self.boxes and b"moov" not in self.boxes:
            return "its index (the moov box) is missing"
        return None

    @property
    def is_scrambled(self) -> bool:
        """Whether the packets of an MPEG transport stream are, but for its tables."""
        packets = [self._head[at : at + 4] for at in range(0, _HEAD_BYTES, _TS_PACKET_BYTES)]
        if any(len(one) < 4 or one[0] != _TS_SYNC for one in packets):  # noqa: PLR2004 - a header
            return False
        scrambled = [bool(one[3] & _TS_SCRAMBLED) for one in packets]
        return 2 * sum(scrambled) > len(scrambled)

    @property
    def tells_length(self) -> bool:
        """Whether an mp3 tells its length; without that FFmpeg's is an estimate."""
        frame = self._frame if self._id3_bytes else self._head
        return _mp3_bytes(frame, self._id3_bytes) is not None

    def _first(self) -> int | None:
        """Chooses the structure by the first bytes; they are the header of the first unit."""
        header = bytes(self._header)
        if header == b"OggS":
            self._parse = self._ogg_page
        elif header[:3] == b"FLV":
            self._parse, self._signature = None, _next_flv
        elif header == b"fLaC":
            self._parse, self._signature = None, _next_flac
        elif header == b"ID3" or (len(header) == 2 and header[0] == 0xFF and header[1] >= 0xE0):  # noqa: PLR2004 - its sync bits
            self._parse, self._signature = None, _next_mp3
        elif header == b"RIFF":
            self._parse = self._riff
        elif header == b"\x1a\x45\xdf\xa3":
            self._parse = self._ebml
        elif len(header) == _BOX_HEADER_BYTES:
            known = header[4:] in _BOX_TYPES
            self._parse = self._box if known else None
            return self._box() if known else None
        return None

    def _riff(self) -> int | None:
        """A RIFF file and what is behind it: another one of its kind, or anything."""
        header = bytes(self._header)
        if len(header) < _RIFF_HEADER_BYTES:
            return None
        size, kind = int.from_bytes(header[4:8], "little"), header[8:12]
        if header[:4] != b"RIFF" or not 4 < size < _STREAMED_RIFF_BYTES:  # noqa: PLR2004 - the kind's
            self._parse = None
            return None
        if self._kind:
            self.ended = kind == self._kind == b"WAVE"
            self._parse = None
            return None
        self._kind = kind
        return size - 4 + size % 2  # whole words

    def _ebml(self) -> int | None:
        """The elements of a Matroska file: its head, and what holds all the rest."""
        header = self._header
        if len(header) < _EBML_HEADER_BYTES:
            return None
        kind, size = bytes(header[:4]), _ebml_size(header, 4)
        if kind == b"\x1a\x45\xdf\xa3" and self._began:
            self.ended = True
            return None
        if size is None or kind not in {b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"}:
            self._parse = None
            return None
        self._began = kind == b"\x18\x53\x80\x67"
        left = size[0] + size[1] - len(header)
        if left < 0:
            self._parse = None
            return None
        return left

    def _box(self) -> int | None:
        header = self._header
        if len(header) < _BOX_HEADER_BYTES:
            return None
        size, kind = int.from_bytes(header[:4], "big"), bytes(header[4:8])
        header_bytes = _BOX_HEADER_BYTES
        if size == 1:  # the size follows as 64 bits
            header_bytes = 2 * _BOX_HEADER_BYTES
            if len(header) < header_bytes:
                return None
            size = int.from_bytes(header[8:16], "big")
        if kind not in _BOX_TYPES or (size and size < header_bytes):
            self._parse = None  # bytes after the last box
            return None
        if kind == b"ftyp" and b"mdat" in self.boxes and b"moov" in self.boxes:
            self.ended = True
            return None
        if kind not in self.boxes:
            self.boxes.append(kind)
        if size == 0:  # up to the end of the file, wherever that is
            self._parse = None
            return None
        return size - header_bytes

    def _ogg_page(self) -> int | None:
        header = self._header
        if len(header) < _OGG_HEADER_BYTES or len(header) < _OGG_HEADER_BYTES + header[26]:
            return None
        if not header.startswith(b"OggS"):
            self._parse = None
            return None
        first = bool(header[5] & _OGG_FIRST_PAGE)
        if first and self._began:
            self.ended = True
            return None
        self._began = not first
        return sum(header[_OGG_HEADER_BYTES:])


def _next_flv(data: bytes, at: int) -> int:
    return _matching(b"FLV\x01", _FLV, data, at)


def _next_flac(data: bytes, at: int) -> int:
    return _matching(b"fLaC", _FLAC, data, at)


def _matching(start: bytes, whole: re.Pattern[bytes], data: bytes, at: int) -> int:
    """Where a file begins, or -1; the search for its first bytes is much faster than re's."""
    while (at := data.find(start, at)) >= 0:
        if whole.match(data, at):
            return at
        at += 1
    return -1


def _next_mp3(data: bytes, at: int) -> int:
    """Where a frame is that tells the length of another mp3, or -1."""
    found: list[int] = []
    for mark in (b"Xing", b"Info"):
        tag = at
        while not found and (tag := data.find(mark, tag)) >= 0:
            flags = data[tag + 4 : tag + 8]
            begins = [tag - offset for offset in _XING_OFFSETS if tag - offset >= at]
            if flags[:3] == bytes(3) and flags[3:] <= b"\x0f":
                found += [n for n in begins if data[n] == 0xFF and data[n + 1] >= 0xE0][:1]  # noqa: PLR2004 - its sync bits
            tag += 1
    begin = min(found, default=-1)
    tags = _tags_at(data, begin) if begin > 0 else -1
    return tags if tags >= at and begin - tags == _id3_bytes(data[tags:]) else begin


def _tags_at(data: bytes, end: int) -> int:
    """Where the last tags of an mp3 before `end` begin, or -1."""
    at = data.rfind(b"ID3", 0, end)
    return at if at >= 0 and 0 < _id3_bytes(data[at : at + 10]) <= _MAX_TAG_BYTES else -1


def mpegts_start(before: bytes) -> int:
    """How far before the end of `before` an MPEG transport stream can be opened, bytes.

    At the last packet of the table that names its programs.
    """
    for back in range(_TS_PACKET_BYTES, len(before) + 1, _TS_PACKET_BYTES):
        at = len(before) - back
        if before[at] == _TS_SYNC and not before[at + 1] & 0x1F and not before[at + 2]:
            return back
    return 0


def parts(file: Seekable, n_bytes: int) -> list[tuple[int, int, Structure]]:
    """Where the files that are written one behind the other in `file` begin and end.

    Raises what reading the file raises.
    """
    found: list[tuple[int, int, Structure]] = []
    begin = at = 0
    structure = Structure()
    size = _HEAD_BYTES
    while at < n_bytes and structure.is_walked:
        file.seek(at)
        data = file.read(size)
        if not data:
            break
        n_taken = structure.take(data, last=at + len(data) >= n_bytes)
        at += n_taken
        size = _SEARCH_BYTES if structure.searches else _HEADER_BYTES
        if not (n_taken or structure.ended):
            break
        if structure.ended:
            found.append((begin, at, structure))
            begin, structure, size = at, Structure(), _HEAD_BYTES
        elif skipped := min(structure.body_left, n_bytes - at):
            structure.skip(skipped)
            at += skipped
    structure.n_bytes += n_bytes - at
    if tags := structure.tags_before_frame:
        file.seek(begin + tags)
        structure.see_frame(file.read(_XING_FRAME_BYTES))
    return [*found, (begin, n_bytes, structure)]


_HEAD_BYTES = 4096
_BOX_HEADER_BYTES = 8
_OGG_HEADER_BYTES = 27
_OGG_FIRST_PAGE = 2  # the flag of a logical stream's first page
_RIFF_HEADER_BYTES = 12
_EBML_HEADER_BYTES = 12  # the longest: four bytes of its kind, eight of its size
_HEADER_BYTES = 512  # more than an Ogg page's header can have
_SEARCH_BYTES = 1 << 20
# Of files whose units would have to be walked one by one.
_FLV = re.compile(rb"FLV\x01[\x01\x04\x05]\x00\x00\x00\x09\x00\x00\x00\x00")
_FLAC = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")
_SIGNATURE_BYTES = 64  # more than any of them
MPEGTS_TABLE_BYTES = 1 << 16  # in which the table comes again
_TS_PACKET_BYTES = 188
_TS_SYNC = 0x47
_TS_SCRAMBLED = 0xC0
_MAX_TAG_BYTES = 1 << 22  # with pictures
_XING_OFFSETS = (36, 21, 13)  # from the frame's start, by its version and channels
_BOX_TYPES = frozenset(
    b"ftyp moov mdat moof free skip wide uuid meta udta pdin mfra sidx styp ssix prft emsg".split()
)
_ID3_HEADER_BYTES = 10
_XING_FRAME_BYTES = 64  # enough for the part of the header that tells the length
_STREAMED_RIFF_BYTES = 0x7FFFF000  # writers to a pipe leave this or more as the size


def _riff_bytes(head: bytes | bytearray) -> int | None:
    """The length that a RIFF file (wav, avi) declares, or None."""
    if head[:4] != b"RIFF" or len(head) < 8:  # noqa: PLR2004 - "RIFF" and 32 bits of size
        return None
    size = int.from_bytes(head[4:8], "little")
    return size + 8 if 0 < size < _STREAMED_RIFF_BYTES else None


def _matroska_bytes(head: bytes | bytearray) -> int | None:
    """The length that a Matroska or WebM file declares, or None."""
    if head[:4] != b"\x1a\x45\xdf\xa3":
        return None
    header = _ebml_size(head, 4)
    if header is None:
        return None
    segment_at = header[0] + header[1]
    if head[segment_at : segment_at + 4] != b"\x18\x53\x80\x67":
        return None
    segment = _ebml_size(head, segment_at + 4)
    return None if segment is None else segment[0] + segment[1]


def _ebml_size(head: bytes | bytearray, at: int) -> tuple[int, int] | None:
    """Where the content begins and its length, or None for the unknown length of a stream."""
    if at >= len(head) or not head[at]:
        return None
    n = 9 - head[at].bit_length()
    raw = int.from_bytes(head[at : at + n], "big")
    value = raw & ((1 << (7 * n)) - 1)
    if len(head) < at + n or value == (1 << (7 * n)) - 1:
        return None
    return at + n, value


def _id3_bytes(head: bytes | bytearray) -> int:
    """The length of the ID3v2 tag at the start of an mp3, 0 for none."""
    if head[:3] != b"ID3" or len(head) < _ID3_HEADER_BYTES:
        return 0
    size = 0
    for seven_bits in head[6:10]:
        size = size << 7 | seven_bits & 0x7F
    return size + _ID3_HEADER_BYTES


def _mp3_bytes(frame: bytes | bytearray, at: int) -> int | None:
    """The length that the Xing or Info header in an mp3's first frame declares, or None.

    `at` is where the frame stands. The header follows the frame's side information, whose length
    depends on the version and the channels.
    """
    if frame[:1] != b"\xff" or len(frame) < _XING_FRAME_BYTES or frame[1] & 0xE0 != 0xE0:  # noqa: PLR2004 - the frame's sync bits
        return None
    for offset in _XING_OFFSETS:
        if frame[offset : offset + 4] in (b"Xing", b"Info"):
            has_frames, has_bytes = frame[offset + 7] & 1, frame[offset + 7] & 2
            field = offset + 8 + 4 * has_frames
            return at + int.from_bytes(frame[field : field + 4], "big") if has_bytes else None
    return None
