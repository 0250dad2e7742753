"""The outer structure of media files: what of them is missing, and where another one begins.

FFmpeg reads a file that was cut off to its last whole packet and reports a normal end; only the
lengths that the file itself tells show that something is missing. And of recordings that were
joined by writing one file behind the other it reads the first one only, in most formats.
"""

import struct
from typing import TYPE_CHECKING, Protocol

from voxroute_serving.audio.signatures import (
    FRAMES_BYTES,
    ID3_HEADER_BYTES,
    SIGNATURE_BYTES,
    XING_OFFSETS,
    id3_bytes,
    is_raw,
    is_tag,
    next_file,
    tags_at,
    without_tags,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from voxroute_serving.audio.media import MediaFile


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
        self.unread_bytes = 0
        """Bytes behind the end that the file itself tells, but zeros and tags."""
        self.own_end: int | None = None
        """That end, where bytes stand behind it; FFmpeg takes them for damage in some formats."""
        self._head = bytearray()  # enough for the headers of RIFF, Matroska and mp3
        self._id3_bytes = 0  # length of the tags before an mp3's first frame
        self._frame = bytearray()  # the first frame behind such tags
        self._header = bytearray()
        self._body_left = 0
        self._began = False  # whether an Ogg file's first pages are over, and the like
        self._last = False  # whether an Ogg file's last page is over
        self._parse: Callable[[], int | None] | None = self._first
        self._search_from: int | None = None  # where another file may begin
        self._told_end = False  # whether that is the end that the file itself tells...
        self._zeros = 0  # bytes behind it
        self._exact = False  # ...and FFmpeg would find no more behind it

    def take(self, data: bytes, *, last: bool = False) -> int:
        """How many of the next bytes belong to this file.

        Fewer than all where another begins, or where that cannot be told before more are there:
        offer the rest again, with what follows it. `last` where nothing follows.
        """
        n_taken = self._walk(data) if self._parse is not None else len(data)
        if self._search_from is not None:
            at = min(max(0, self._search_from - self.n_bytes), len(data))
            n_taken = self._searched(data, at, last=last)
        if last and not self.ended:
            n_taken = len(data)
        self._see(data[:n_taken])
        return n_taken

    def _searched(self, data: bytes, at: int, *, last: bool) -> int:
        """As `take`, where from `at` on another file may begin anywhere."""
        behind = b""
        if self._told_end and self.n_bytes + at == self._search_from:
            self.own_end = (
                self._search_from if self._exact and self.own_end is None else self.own_end
            )
            behind = data[at:].lstrip(b"\0")
            if not behind:
                self._search_from = self.n_bytes + len(data)
                self._zeros += len(data) - at
                if self._zeros > _MOST_ZEROS:  # a sparse file may have any number
                    self._search_from = None
                return len(data)
            if not last and len(behind) < id3_bytes(behind) + FRAMES_BYTES:
                return at
            if is_tag(behind):
                self.own_end, self._told_end = self.own_end or self._search_from, False
            behind = without_tags(behind)
        found = len(data) - len(behind) if is_raw(behind) else next_file(data, at)
        if found >= 0:
            self.ended, self.unread_bytes = True, 0
            return found
        n_taken = len(data)
        if not last:
            n_taken = max(at, n_taken - SIGNATURE_BYTES)
            tags = tags_at(data, n_taken)
            if tags > 0 and tags + id3_bytes(data[tags:]) >= n_taken:
                n_taken = max(at, tags)  # they may be another file's
        if self._told_end:
            self.unread_bytes += n_taken - at - data.count(0, at, n_taken)
        return n_taken

    @property
    def body_left(self) -> int:
        """Bytes that follow of which nothing need be seen; they may be skipped."""
        return self._body_left if self._parse is not None else 0

    @property
    def searches(self) -> bool:
        """Whether another file's start can be anywhere."""
        return self._search_from is not None

    @property
    def is_walked(self) -> bool:
        """Whether anything that follows could be another file's start."""
        return self._parse is not None or self._search_from is not None

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
            self._id3_bytes = id3_bytes(self._head)
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
            if self._search_from is not None:
                self._search_from = max(self._search_from, self.n_bytes + unit)
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

    @property
    def is_shorter_than_told(self) -> bool:
        """Whether an FLV has fewer bytes than its first tag tells."""
        at = self._head.find(_FLV_SIZE)
        if at < 0 or not self._head.startswith(b"FLV"):
            return False
        number = self._head[at + len(_FLV_SIZE) :][:8]
        return len(number) == 8 and self.n_bytes < struct.unpack(">d", number)[0] < _ENDLESS_BYTES  # noqa: PLR2004 - a double

    def _first(self) -> int | None:
        """Chooses the structure by the first bytes; they are the header of the first unit."""
        header = bytes(self._header)
        if len(header) < _BOX_HEADER_BYTES:
            return None
        if header[:3] == b"ID3" or (header[0] == 0xFF and header[1] >= 0xE0):  # noqa: PLR2004 - its sync bits
            if len(header) < ID3_HEADER_BYTES:
                return None
            self._behind(id3_bytes(header) + _HEAD_BYTES, told=False)
        elif header.startswith(_SEARCHED):
            self._behind(1, told=False)
        elif header[4:] in _BOX_TYPES:
            self._parse = self._box
        else:
            self._parse = {
                b"OggS": self._ogg_page,
                b"wvpk": self._wavpack_block,
                b"TTA1": self._tta_frames,
                b"caff": self._caf_chunk,
                b"0&\xb2u": self._asf_object,
                b"\x1a\x45\xdf\xa3": self._ebml,
            }.get(header[:4], self._whole if header[:4] in _WHOLE else None)
        return None if self._parse is None else self._parse()

    def _behind(self, search_from: int = 0, *, told: bool = True, exact: bool = True) -> None:
        """From here on, or from a byte, another file may begin; `told` if this one ends here."""
        self._parse, self._told_end, self._search_from = None, told, search_from
        self._exact = exact and told

    def _whole(self) -> int | None:
        """A file whose head tells its length; a long AVI is several of them."""
        header = bytes(self._header)
        if len(header) < _WHOLE_HEADER_BYTES:
            return None
        if self._began and header[8:12] != b"AVIX":
            return self._behind(exact=not self._head.startswith(b"RIFF"))  # which is wrong at times
        size = _whole_bytes(header)
        if size is None or not len(header) <= size < _ENDLESS_BYTES:
            return self._behind(1, told=False)
        self._began = True
        return size - len(header)

    def _ebml(self) -> int | None:
        """The elements of a Matroska file: its head, and what holds all the rest."""
        header = self._header
        if len(header) < _EBML_HEADER_BYTES:
            return None
        kind, size = bytes(header[:4]), _ebml_size(header, 4)
        if self._began or kind not in {b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"}:
            return self._behind(exact=False)
        self._began = kind == b"\x18\x53\x80\x67"
        left = -1 if size is None else size[0] + size[1] - len(header)
        return left if left >= 0 else self._behind(1, told=False)

    def _caf_chunk(self) -> int | None:
        header = self._header
        if not self._began:  # eight bytes for the file
            self._began = True
            return 0
        if len(header) < _CAF_HEADER_BYTES:
            return None
        kind, size = bytes(header[:4]), int.from_bytes(header[4:12], "big", signed=True)
        if b"data" in self.boxes and kind not in _CAF_CHUNKS:
            return self._behind()
        self.boxes.append(kind)
        return size if size >= 0 else self._behind(1, told=False)

    def _asf_object(self) -> int | None:
        header = self._header
        if len(header) < _ASF_HEADER_BYTES:
            return None
        size = int.from_bytes(header[16:24], "little") - len(header)
        another = self._began and header.startswith(b"0&\xb2u")
        if size < 0 or bytes(header[:4]) not in _ASF_OBJECTS or another:
            return self._behind(told=size >= 0, exact=False)
        self._began = True
        return size

    def _tta_frames(self) -> int | None:
        """All frames; the lengths of each stand behind the file's head."""
        header = self._header
        if self._began:
            return self._behind()
        if len(header) < _TTA_HEADER_BYTES:
            return None
        rate, n_samples = (int.from_bytes(header[at : at + 4], "little") for at in (10, 14))
        n_frames = -(-n_samples * 245 // (256 * rate)) if rate else 0
        end = _TTA_HEADER_BYTES + 4 * n_frames
        if len(header) < end + 4:  # and a checksum
            return None
        self._began = True
        return sum(memoryview(bytes(header[_TTA_HEADER_BYTES:end])).cast("I"))

    def _wavpack_block(self) -> int | None:
        """A block of it, which tells the number of its first sample."""
        header = self._header
        if len(header) < _WAVPACK_HEADER_BYTES:
            return None
        sounds = any(header[20:24])
        first = sounds and not any(header[16:20]) and bool(header[25] & _WAVPACK_INITIAL)
        if not header.startswith(b"wvpk") or (first and self._began):
            return self._behind()
        self._began = self._began or sounds
        return max(0, int.from_bytes(header[4:8], "little") + 8 - len(header))

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
        another = kind == b"ftyp" and b"mdat" in self.boxes and b"moov" in self.boxes
        if kind not in _BOX_TYPES or (size and size < header_bytes) or another:
            return self._behind(exact=False)  # bytes after the last box
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
        first = bool(header[5] & _OGG_FIRST_PAGE)
        is_page = header.startswith(b"OggS")  # else perhaps one that is damaged
        another = is_page and first and self._began
        if another or not is_page:
            return self._behind(told=another or self._last)
        self._began, self._last = not first, bool(header[5] & _OGG_LAST_PAGE)
        return sum(header[_OGG_HEADER_BYTES:])


def mpegts_start(before: bytes) -> int:
    """How far before the end of `before` an MPEG transport stream can be opened, bytes.

    At the last packet of the table that names its programs.
    """
    for back in range(_TS_PACKET_BYTES, len(before) + 1, _TS_PACKET_BYTES):
        at = len(before) - back
        if before[at] == _TS_SYNC and not before[at + 1] & 0x1F and not before[at + 2]:
            return back
    return 0


def parts_of(file: "MediaFile") -> list[tuple[int, int, Structure]]:
    """As `parts`; a file that is opened again is not searched to its end again."""
    found = _known.get(file.identity)
    if found is None:
        found = parts(file, file.size)
        for oldest in list(_known)[: 1 - _N_KNOWN]:
            _known.pop(oldest, None)
        _known[file.identity] = found
    return found


_N_KNOWN = 8  # of jobs that run at the same time
_known: dict[tuple[int, int, int, int], list[tuple[int, int, Structure]]] = {}


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
            size = max(size, 2 * len(data))  # it is to see more at once
        if structure.ended:
            found.append((begin, begin + (structure.own_end or at - begin), structure))
            begin, structure, size = at, Structure(), _HEAD_BYTES
        elif skipped := min(structure.body_left, n_bytes - at):
            structure.skip(skipped)
            at += skipped
    structure.n_bytes += n_bytes - at
    if tags := structure.tags_before_frame:
        file.seek(begin + tags)
        structure.see_frame(file.read(_XING_FRAME_BYTES))
    return [*found, (begin, begin + (structure.own_end or n_bytes - begin), structure)]


_HEAD_BYTES = 4096
_BOX_HEADER_BYTES = 8
_OGG_HEADER_BYTES = 27
_OGG_LAST_PAGE = 4
_OGG_FIRST_PAGE = 2  # the flag of a logical stream's first page
_WHOLE_HEADER_BYTES = 28  # up to the length in an RF64
_WHOLE = {b"RIFF", b"RF64", b"FORM", b"riff", b".snd"}  # wav and avi, aiff, w64, au
_SEARCHED = (b"fLaC", b"FLV", b"#!AMR")  # whose units would have to be walked one by one
_CAF_HEADER_BYTES = 12
_CAF_CHUNKS = frozenset(
    b"desc data info chan pakt kuki strg mark regn inst midi ovvw peak edct uuid umid free".split()
)
_ASF_HEADER_BYTES = 24
_ASF_OBJECTS = frozenset(
    bytes.fromhex(one)
    for one in ("3026b275", "3626b275", "90080033", "d329e2d6", "feb103f8", "d03fb73c")
)
_FLV_SIZE = b"\0\x08filesize\0"  # of onMetaData; a number follows
_TTA_HEADER_BYTES = 22
_WAVPACK_HEADER_BYTES = 32
_WAVPACK_INITIAL = 0x08  # the flag of the first channels' block, in the second byte
_EBML_HEADER_BYTES = 12  # the longest: four bytes of its kind, eight of its size
_HEADER_BYTES = 512  # more than an Ogg page's header can have
_MOST_ZEROS = 1 << 26
_SEARCH_BYTES = 1 << 20
MPEGTS_TABLE_BYTES = 1 << 16  # in which the table comes again
_TS_PACKET_BYTES = 188
_TS_SYNC = 0x47
_TS_SCRAMBLED = 0xC0
_BOX_TYPES = frozenset(
    b"ftyp moov mdat moof free skip wide uuid meta udta pdin mfra sidx styp ssix prft emsg".split()
)
_XING_FRAME_BYTES = 64  # enough for the part of the header that tells the length
_ENDLESS_BYTES = 1 << 60
_STREAMED_RIFF_BYTES = 0x7FFFF000  # writers to a pipe leave this or more as the size


def _riff_bytes(head: bytes | bytearray) -> int | None:
    """The length that a RIFF file (wav, avi) declares, or None."""
    if head[:4] != b"RIFF" or len(head) < 8:  # noqa: PLR2004 - "RIFF" and 32 bits of size
        return None
    size = int.from_bytes(head[4:8], "little")
    return size + 8 if 0 < size < _STREAMED_RIFF_BYTES else None


def _whole_bytes(header: bytes) -> int | None:
    """The length that a file of one unit tells in its header; None or nonsense in a stream's."""
    kind = header[:4]
    if kind == b"RIFF":
        size = _riff_bytes(header)
        return size and size + size % 2  # whole words
    if kind == b"RF64":
        return int.from_bytes(header[20:28], "little") + 8 if header[12:16] == b"ds64" else None
    if kind == b"riff":
        return int.from_bytes(header[16:24], "little")
    size = int.from_bytes(header[4:8], "big")
    if kind == b"FORM":
        return size + 8 + size % 2 if size < _STREAMED_RIFF_BYTES else None
    data = int.from_bytes(header[8:12], "big")  # of .snd
    return size + data if 0 < data < _STREAMED_RIFF_BYTES else None


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


def _mp3_bytes(frame: bytes | bytearray, at: int) -> int | None:
    """The length that the Xing or Info header in an mp3's first frame declares, or None.

    `at` is where the frame stands. The header follows the frame's side information, whose length
    depends on the version and the channels.
    """
    if frame[:1] != b"\xff" or len(frame) < _XING_FRAME_BYTES or frame[1] & 0xE0 != 0xE0:  # noqa: PLR2004 - the frame's sync bits
        return None
    for offset in XING_OFFSETS:
        if frame[offset : offset + 4] in (b"Xing", b"Info"):
            has_frames, has_bytes = frame[offset + 7] & 1, frame[offset + 7] & 2
            field = offset + 8 + 4 * has_frames
            return at + int.from_bytes(frame[field : field + 4], "big") if has_bytes else None
    return None
