"""Audio in: the bytes of a request, as they arrive, to blocks of 16 kHz mono samples.

Raw samples and media files are both decoded as a stream, so that memory does not grow with the
recording. Decoders are synchronous iterators for a thread of their own (`stream.Threaded`); they
read from a `Source` that blocks until bytes arrive.
"""

import contextlib
import importlib
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

import numpy as np

from voxroute_serving.engine import SAMPLE_RATE, Samples
from voxroute_serving.errors import FieldViolation, InvalidAudioError, LimitExceededError
from voxroute_serving.media import MediaRefusedError, bad_sample_rate, open_container

if TYPE_CHECKING:
    import av
    from av.audio.stream import AudioStream
    from av.container import InputContainer

MAX_CHANNELS = 8  # 7.1

_BLOCK_SAMPLES = SAMPLE_RATE // 2  # half a second at a time: little latency, little overhead
_READ_BYTES = 1 << 17
_BYTES_PER_SAMPLE = 2  # s16le
_INT16_SCALE = 32768.0

_GAP_S = 0.1  # s; a jump of the clock by more is a hole or an overlap, less is rounding
_MAX_OVERLAP_S = 5.0  # s; a larger step back is a clock that starts again
_MAX_SPOOL_BYTES = 16 << 30  # an mp4 with its index at the end is kept on disk up to this size
_MAX_DAMAGED_SHARE = 0.05  # of the packets; more is not the recording that was meant
_MAX_INDEX_SEARCH_BYTES = 1 << 20  # boxes before `moov` or `mdat` are small

# Formats whose clock starts anywhere (a broadcast's); time counts from their first packet.
_FREE_RUNNING_CLOCK = frozenset({"mpegts", "mpeg"})
_REPORTED_SHORTFALL_S = 1.0
_FLAC_LENGTH_TOLERANCE_S = 0.05  # s; its header tells the length to the sample


class Source(Protocol):
    """Where the bytes come from."""

    def read(self, n: int, /) -> bytes:
        """At most `n` bytes, waiting for the first; empty at the end."""
        ...


class Decoder(Protocol):
    """A recording that is being decoded. Iterate it once, on one thread."""

    start_s: float
    """Media time of the first sample, seconds; valid once the first block is out."""
    damaged_packets: int
    """Packets that could not be decoded and were replaced by silence."""
    missing_s: float
    """Holes in the media's clock that were filled with silence, and what its headers promise
    beyond the end, seconds."""

    def __iter__(self) -> Iterator[Samples]:
        """Blocks of half a second or more, as they come, contiguous in media time.

        Raises InvalidAudioError, LimitExceededError, and whatever the source raises.
        """
        ...


@dataclass(frozen=True, slots=True)
class PcmFormat:
    """Raw samples: s16le, interleaved; media time of the first one in seconds."""

    sample_rate_hz: int = SAMPLE_RATE
    channels: int = 1
    start_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ContainerFormat:
    """The bytes of a media file; which of its audio streams, counted from 0."""

    audio_stream: int = 0


AudioFormat = PcmFormat | ContainerFormat


def load_libraries() -> None:
    """Imports FFmpeg's libraries, which takes a tenth of a second.

    At the start, by one thread: where the threads of two calls begin with them at once, Python's
    import fails in one of them (CPython 3.11, av and av.error).
    """
    importlib.import_module("av.error")


def decoder(audio_format: AudioFormat, source: Source, max_audio_s: float) -> Decoder:
    """The decoder of a format; longer recordings than `max_audio_s` raise LimitExceededError."""
    if isinstance(audio_format, PcmFormat):
        return PcmDecoder(audio_format, source, max_audio_s)
    return ContainerDecoder(audio_format, source, max_audio_s)


def _no_audio() -> InvalidAudioError:
    return InvalidAudioError(
        "the recording has no audio; send its bytes in `audio` messages before `finish`"
    )


class _Limit:
    """Counts samples up to the longest recording that is taken."""

    def __init__(self, max_audio_s: float) -> None:
        self._max_audio_s = max_audio_s
        self.n_samples = 0

    def add(self, n_samples: float) -> None:
        self.n_samples += int(n_samples)
        if self.n_samples > self._max_audio_s * SAMPLE_RATE:
            raise LimitExceededError(
                f"the recording is longer than the {self._max_audio_s:g} s that this service takes;"
                " send it in parts, or raise the service's max_audio_s"
            )


def _in_blocks(pieces: Iterator[Samples]) -> Iterator[Samples]:
    """The same samples in blocks of whole _BLOCK_SAMPLES, as they come; the last one shorter."""
    waiting: list[Samples] = []
    n_waiting = 0
    for piece in pieces:
        waiting.append(piece)
        n_waiting += len(piece)
        if n_waiting < _BLOCK_SAMPLES:
            continue
        joined = np.concatenate(waiting)
        end = n_waiting - n_waiting % _BLOCK_SAMPLES
        yield joined[:end]
        waiting, n_waiting = [joined[end:].copy()], n_waiting - end
    if n_waiting:
        yield np.concatenate(waiting)


class _Resampler:
    """Mono float samples at one rate to the same at SAMPLE_RATE, as a stream."""

    def __init__(self, sample_rate_hz: int) -> None:
        import av  # noqa: PLC0415 - FFmpeg's libraries load only where audio is decoded

        self._rate = sample_rate_hz
        self._frame: Callable[..., av.AudioFrame] = av.AudioFrame.from_ndarray
        self._swr = av.AudioResampler("flt", "mono", SAMPLE_RATE)

    def push(self, samples: Samples) -> Iterator[Samples]:
        if self._rate == SAMPLE_RATE:
            yield samples
            return
        frame = self._frame(samples[np.newaxis, :], format="flt", layout="mono")
        frame.sample_rate = self._rate
        yield from _arrays(self._swr.resample(frame))

    def flush(self) -> Iterator[Samples]:
        if self._rate != SAMPLE_RATE:
            yield from _arrays(self._swr.resample(None))


def _arrays(frames: "list[av.AudioFrame]") -> Iterator[Samples]:
    for frame in frames:
        if frame.samples:
            samples = frame.to_ndarray().reshape(-1)
            if samples.dtype == np.int16:
                samples = samples.astype(np.float32) / np.float32(_INT16_SCALE)
            yield cast("Samples", samples)


class PcmDecoder:
    """Raw samples, mixed to one channel by their mean and resampled."""

    def __init__(self, pcm: PcmFormat, source: Source, max_audio_s: float) -> None:
        self.start_s = pcm.start_s
        self.damaged_packets = 0
        self.missing_s = 0.0
        self._pcm = pcm
        self._source = source
        self._limit = _Limit(max_audio_s)

    def __iter__(self) -> Iterator[Samples]:
        return _in_blocks(self._pieces())

    def _pieces(self) -> Iterator[Samples]:
        resampler = _Resampler(self._pcm.sample_rate_hz)
        frame_bytes = self._pcm.channels * _BYTES_PER_SAMPLE
        # Whole tenths of a second, whatever the chunks: the same bytes are resampled alike.
        piece_bytes = self._pcm.sample_rate_hz // 10 * frame_bytes
        waiting = bytearray()
        n_bytes = 0
        while chunk := self._source.read(_READ_BYTES):
            n_bytes += len(chunk)
            waiting += chunk
            end = len(waiting) - len(waiting) % piece_bytes
            if end:
                piece = bytes(waiting[:end])
                del waiting[:end]
                yield from self._counted(resampler.push(self._mono(piece)))
        if not n_bytes:
            raise _no_audio()
        self._check_whole(n_bytes)
        if waiting:
            yield from self._counted(resampler.push(self._mono(bytes(waiting))))
        yield from self._counted(resampler.flush())

    def _check_whole(self, n_bytes: int) -> None:
        channels = self._pcm.channels
        if n_bytes % _BYTES_PER_SAMPLE:
            raise InvalidAudioError(
                f"audio has an odd number of bytes ({n_bytes}); send whole 16-bit samples"
            )
        if n_bytes % (channels * _BYTES_PER_SAMPLE):
            raise InvalidAudioError(
                f"audio has {n_bytes} bytes, which are no whole frames of {channels} channels;"
                " send a 16-bit sample for every channel"
            )

    def _mono(self, piece: bytes) -> Samples:
        samples = np.frombuffer(piece, "<i2").astype(np.float32)
        if self._pcm.channels > 1:
            samples = samples.reshape(-1, self._pcm.channels).mean(axis=1)
        return samples / np.float32(_INT16_SCALE)

    def _counted(self, pieces: Iterator[Samples]) -> Iterator[Samples]:
        for piece in pieces:
            self._limit.add(len(piece))
            yield piece


class _Layout:
    """Follows the outer structure of a media file as its bytes go by.

    FFmpeg reads a file that was cut off to its last whole packet and reports a normal end; only
    the lengths that the file itself tells show that something is missing.
    """

    def __init__(self) -> None:
        self.n_bytes = 0
        self.boxes: list[bytes] = []  # top-level boxes of an mp4, each type once, in order
        self._head = bytearray()  # enough for the headers of RIFF, Matroska and mp3
        self._id3_bytes = 0  # length of the tags before an mp3's first frame
        self._frame = bytearray()  # the first frame behind such tags
        self._header = bytearray()
        self._body_left = 0
        self._parse: Callable[[], int | None] | None = self._first

    def feed(self, data: bytes) -> None:
        if len(self._head) < _HEAD_BYTES:
            self._head += data[: _HEAD_BYTES - len(self._head)]
            self._id3_bytes = _id3_bytes(self._head)
        if self._id3_bytes and len(self._frame) < _XING_FRAME_BYTES:
            self._frame += data[max(0, self._id3_bytes - self.n_bytes) :][:_XING_FRAME_BYTES]
        self.n_bytes += len(data)
        at = 0
        while self._parse is not None and at < len(data):
            if self._body_left:
                step = min(self._body_left, len(data) - at)
                self._body_left -= step
                at += step
                continue
            self._header.append(data[at])
            at += 1
            body = self._parse()
            if body is not None:
                self._header.clear()
                self._body_left = body

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

    def _first(self) -> int | None:
        """Chooses the structure by the first bytes; they are the header of the first unit."""
        if bytes(self._header) == b"OggS":
            self._parse = self._ogg_page
        elif len(self._header) == _BOX_HEADER_BYTES:
            known = bytes(self._header[4:]) in _BOX_TYPES
            self._parse = self._box if known else None
            return self._box() if known else None
        return None

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
        return sum(header[_OGG_HEADER_BYTES:])


_HEAD_BYTES = 4096
_BOX_HEADER_BYTES = 8
_OGG_HEADER_BYTES = 27
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
    for offset in (36, 21, 13):
        if frame[offset : offset + 4] in (b"Xing", b"Info"):
            has_frames, has_bytes = frame[offset + 7] & 1, frame[offset + 7] & 2
            field = offset + 8 + 4 * has_frames
            return at + int.from_bytes(frame[field : field + 4], "big") if has_bytes else None
    return None


class _Reader:
    """The source as FFmpeg sees it: readable only, every byte passing `layout`."""

    def __init__(self, source: Source) -> None:
        self.layout = _Layout()
        self.at_end = False
        self._source = source
        self._replay = b""

    def read(self, n: int = _READ_BYTES) -> bytes:
        if self._replay:
            data, self._replay = self._replay[:n], self._replay[n:]
            return data
        return self._fresh(n)

    def index_at_end(self) -> bool:
        """Whether this is an mp4 whose samples come before their index."""
        seen = bytearray()
        while (
            len(seen) < _MAX_INDEX_SEARCH_BYTES
            and b"moov" not in self.layout.boxes
            and b"mdat" not in self.layout.boxes
            and self.layout.may_be_mp4
            and (data := self._fresh(_READ_BYTES))
        ):
            seen += data
        self._replay = bytes(seen)
        boxes = self.layout.boxes
        return b"mdat" in boxes and not {b"moov", b"moof"} & set(boxes[: boxes.index(b"mdat")])

    def drain(self) -> None:
        """Reads to the end what FFmpeg did not need."""
        self._replay = b""
        while self._fresh(_READ_BYTES):
            pass

    def _fresh(self, n: int) -> bytes:
        data = self._source.read(n)
        self.layout.feed(data)
        self.at_end = self.at_end or not data
        return data


class ContainerDecoder:
    """A media file, demuxed and decoded while its bytes arrive.

    An mp4 whose index stands at its end goes to a temporary file first (`spool` opens it). Holes
    in the audio's clock are filled with silence and overlaps dropped, so that a sample's place is
    its media time. A file that was cut off raises InvalidAudioError wherever its format tells its
    length: mp4, Matroska with a known size, wav, avi, flac, mp3 with a Xing header, Ogg within a
    page. Raw streams (MPEG-TS, ADTS) end where they end.
    """

    def __init__(
        self,
        container: ContainerFormat,
        source: Source,
        max_audio_s: float,
        spool: Callable[[], BinaryIO] = tempfile.TemporaryFile,
    ) -> None:
        self.start_s = 0.0
        self.damaged_packets = 0
        self.missing_s = 0.0
        self._packets = 0
        self._chosen = container.audio_stream
        self._reader = _Reader(source)
        self._limit = _Limit(max_audio_s)
        self._spool = spool

    def __iter__(self) -> Iterator[Samples]:
        return _in_blocks(self._pieces())

    def _pieces(self) -> Iterator[Samples]:
        import av.error  # noqa: PLC0415 - FFmpeg's libraries load only where audio is decoded

        with contextlib.ExitStack() as stack:
            file = self._file(stack)
            try:
                container = stack.enter_context(open_container(file))
                yield from self._decoded(container)
            except (av.error.FFmpegError, MediaRefusedError) as error:
                raise self._unreadable() from error

    def _file(self, stack: contextlib.ExitStack) -> "_Reader | BinaryIO":
        if not self._reader.index_at_end():
            if not self._reader.layout.n_bytes:
                raise _no_audio()
            return self._reader
        try:
            file = stack.enter_context(self._spool())
            n_bytes = 0
            while data := self._reader.read():
                n_bytes += len(data)
                if n_bytes > _MAX_SPOOL_BYTES:
                    raise LimitExceededError(
                        f"the mp4 has its index at the end and more than {_MAX_SPOOL_BYTES >> 30}"
                        " GiB; put the index in front: ffmpeg -i IN -c copy -movflags +faststart"
                        " OUT.mp4"
                    )
                file.write(data)
            file.seek(0)
        except OSError as error:
            raise LimitExceededError(
                "the service's disk has no room to keep this mp4 until its index, which stands at"
                " its end; put the index in front: ffmpeg -i IN -c copy -movflags +faststart"
                f" OUT.mp4 ({error.strerror})"
            ) from error
        self._check_complete()
        return file

    def _check_complete(self) -> None:
        missing = self._reader.layout.missing()
        if missing:
            raise InvalidAudioError(f"the media file is cut off: {missing}; send the whole file")

    def _unreadable(self) -> InvalidAudioError:
        if self._reader.at_end:
            missing = self._reader.layout.missing()
            if missing:
                return InvalidAudioError(
                    f"the media file is cut off: {missing}; send the whole file"
                )
        if self._limit.n_samples:
            return InvalidAudioError(
                f"the media file is damaged after {self._limit.n_samples / SAMPLE_RATE:.1f} s of"
                " audio; repair it, or convert what can be read: ffmpeg -i IN -vn OUT.wav"
            )
        return InvalidAudioError(
            "the bytes are no media file that FFmpeg reads; send a file with sound (mp4, mkv, wav,"
            " mp3, ...), or raw samples with audio.pcm"
        )

    def _stream(self, container: "InputContainer") -> "AudioStream":
        import av.stream  # noqa: PLC0415 - as above

        streams = container.streams.audio
        if not streams:
            raise InvalidAudioError("the media file has no audio stream; send a file with sound")
        if self._chosen >= len(streams):
            has = f"{len(streams)} audio stream" + "s" * (len(streams) > 1)
            sentence = f"the media file has {has}, counted from 0; there is no {self._chosen}"
            field = "audio.container.audio_stream"
            raise InvalidAudioError(sentence, violations=[FieldViolation(field, sentence)])
        stream = streams[self._chosen]
        # PyAV: no codec context where this build of FFmpeg has no decoder for the codec.
        if cast("object", stream.codec_context) is None:
            raise InvalidAudioError(
                "the media file's audio codec cannot be decoded here; convert it: ffmpeg -i IN"
                " -vn OUT.wav"
            )
        for other in container.streams:
            if other is not stream:
                other.discard = av.stream.Discard.all
        return stream

    def _decoded(self, container: "InputContainer") -> Iterator[Samples]:
        """Mono samples on the media's clock.

        1. choose the stream and the zero of the clock;
        2. decode packet by packet, counting the damaged;
        3. fill holes with silence and drop overlaps by the frames' times;
        4. mix and resample, beginning anew after a hole and where a frame's format changes.
        """
        import av  # noqa: PLC0415 - as above

        stream = self._stream(container)
        zero_s = _zero_s(container)
        swr: av.AudioResampler | None = None
        source_format: tuple[str, str, int] | None = None
        next_s: float | None = None  # media time of the next sample
        for frame in self._frames(container, stream):
            # as for FFmpeg's own tools, a frame without a time follows the one before
            time_s = (next_s or 0.0) if frame.time is None else frame.time - zero_s
            if next_s is None:
                self.start_s = next_s = max(0.0, time_s)
            ahead_s = time_s - next_s
            skip = _too_early(frame, ahead_s, begun=swr is not None)
            if skip == frame.samples:
                continue
            this_format = (frame.format.name, frame.layout.name, frame.sample_rate)
            if swr is not None and (ahead_s > _GAP_S or this_format != source_format):
                yield from self._counted(_arrays(swr.resample(None)))
                swr = None
            if ahead_s > _GAP_S:
                yield from self._silence(ahead_s)
                next_s += ahead_s
                self.missing_s += ahead_s
            if swr is None:
                # 16 bits, as whisper.load_audio and whisperx.load_audio decode: FFmpeg mixes
                # channels to float without normalising them
                swr, source_format = av.AudioResampler("s16", "mono", SAMPLE_RATE), this_format
            frame.pts = None  # time is kept here; the resampler would fill holes its own way
            next_s += (frame.samples - skip) / frame.sample_rate
            pieces = _arrays(swr.resample(frame))
            yield from self._counted(_without(pieces, skip * SAMPLE_RATE // frame.sample_rate))
        if swr is not None:
            yield from self._counted(_arrays(swr.resample(None)))
        self._check_length(container, stream, (next_s or 0.0) - self.start_s)

    def _frames(
        self, container: "InputContainer", stream: "AudioStream"
    ) -> "Iterator[av.AudioFrame]":
        import av.error  # noqa: PLC0415 - as above

        for packet in container.demux(stream):
            self._packets += packet.size > 0
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                self.damaged_packets += 1
                continue
            for frame in frames:
                problem = bad_sample_rate(frame.sample_rate)
                if problem is not None:
                    raise InvalidAudioError(f"the media file {problem}")
                yield frame

    def _silence(self, seconds: float) -> Iterator[Samples]:
        left = round(seconds * SAMPLE_RATE)
        self._limit.add(left)
        while left:
            n = min(left, _BLOCK_SAMPLES)
            yield np.zeros(n, np.float32)
            left -= n

    def _counted(self, pieces: Iterator[Samples]) -> Iterator[Samples]:
        for piece in pieces:
            self._limit.add(len(piece))
            yield piece

    def _check_length(
        self, container: "InputContainer", stream: "AudioStream", decoded_s: float
    ) -> None:
        self._reader.drain()
        self._check_complete()
        if not self._limit.n_samples:
            raise InvalidAudioError(
                "the media file's audio stream holds no sound that can be decoded; send another"
                " file"
            )
        declared_s = _declared_s(stream)
        shortfall_s = 0.0 if declared_s is None else declared_s - decoded_s
        if container.format.name == "flac" and shortfall_s > _FLAC_LENGTH_TOLERANCE_S:
            raise InvalidAudioError(
                f"the media file is cut off: it ends after {decoded_s:.1f} of its"
                f" {declared_s:.1f} s; send the whole file"
            )
        if shortfall_s > _REPORTED_SHORTFALL_S:  # an unreadable rest; priming takes less
            self.missing_s += shortfall_s
        if self.damaged_packets > _MAX_DAMAGED_SHARE * self._packets:
            raise InvalidAudioError(
                f"{self.damaged_packets} of the {self._packets} packets of audio are damaged; send"
                " an intact copy of the file"
            )


def _declared_s(stream: "AudioStream") -> float | None:
    """The length of the audio that the file's headers tell, seconds, or None."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    tag = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if tag is None:
        return None
    start_s = float((stream.start_time or 0) * (stream.time_base or 0))  # the tag is an end
    return int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3]) - start_s


def _zero_s(container: "InputContainer") -> float:
    """Where the container's clock is at media time zero, seconds."""
    start: int | None = container.start_time  # AV_TIME_BASE units; None where it is not known
    return start / 1_000_000 if start and container.format.name in _FREE_RUNNING_CLOCK else 0.0


def _too_early(frame: "av.AudioFrame", ahead_s: float, *, begun: bool) -> int:
    """How many samples of a frame lie before media time zero, or repeat what has been decoded.

    A clock that steps back further than _MAX_OVERLAP_S starts again, and time goes on instead.
    """
    if -_MAX_OVERLAP_S <= ahead_s < -_GAP_S or (ahead_s < 0 and not begun):
        return min(frame.samples, round(-ahead_s * frame.sample_rate))
    return 0


def _without(pieces: Iterator[Samples], n_samples: int) -> Iterator[Samples]:
    """The pieces without their first `n_samples`."""
    for piece in pieces:
        dropped = min(n_samples, len(piece))
        n_samples -= dropped
        if dropped < len(piece):
            yield piece[dropped:]
