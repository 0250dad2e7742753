"""Audio in: the bytes of a request, as they arrive, to blocks of 16 kHz mono samples.

Raw samples and media files are both decoded as a stream, so that memory does not grow with the
recording. Decoders are synchronous iterators for a thread of their own (`calls.feed.Threaded`);
they read from a `Source` that blocks until bytes arrive.
"""

import contextlib
import importlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

from voxroute_serving.audio.media import (
    MediaRefusedError,
    bad_sample_rate,
    open_container,
)
from voxroute_serving.audio.pcm import (
    READ_BYTES,
    Limit,
    PcmDecoder,
    PcmFormat,
    Source,
    in_blocks,
    no_audio,
)
from voxroute_serving.audio.reader import Sound, heard_from_the_start, resumption, successor, zero_s
from voxroute_serving.audio.remarks import Remark
from voxroute_serving.audio.samples import SAMPLE_RATE, Samples
from voxroute_serving.audio.signatures import (
    ID3_HEADER_BYTES,
    MAX_TAG_BYTES,
    id3_bytes,
    is_adts,
)
from voxroute_serving.audio.structure import MPEGTS_TABLE_BYTES, Structure, mpegts_start
from voxroute_serving.audio.tracks import (
    ENCRYPTED,
    Track,
    choose,
    declared_length_s,
    encryption,
    is_language,
    tracks,
)
from voxroute_serving.errors import FieldViolation, InvalidAudioError, LimitExceededError

if TYPE_CHECKING:
    import av
    from av.audio.stream import AudioStream
    from av.container import InputContainer

_REPORTED_MISSING_S = 1.0  # s; shorter holes are the rounding of a recorder's clock
_TOLD_IN_SUM = {"DAMAGED_AUDIO", "AUDIO_GAP"}
_TS_SYNC = b"\x47"
_TAIL_BYTES = 4 << 20  # FFmpeg reads ahead of the packets that it gives

_MAX_SPOOL_BYTES = 16 << 30  # an mp4 with its index at the end is kept on disk up to this size
_MAX_DAMAGED_SHARE = 0.05  # of the packets; more is not the recording that was meant
_MAX_INDEX_SEARCH_BYTES = 1 << 20  # boxes before `moov` or `mdat` are small

_REPORTED_SHORTFALL_S = 1.0
_FLAC_LENGTH_TOLERANCE_S = 0.05  # s; its header tells the length to the sample


class Decoder(Protocol):
    """A recording that is being decoded. Iterate it once, on one thread."""

    @property
    def start_s(self) -> float:
        """Media time of the first sample, seconds; valid once the first block is out."""
        ...

    @property
    def damaged_packets(self) -> int:
        """Packets that could not be decoded and were replaced by silence."""
        ...

    @property
    def missing_s(self) -> float:
        """Holes that were filled with silence, and what is promised beyond the end, seconds."""
        ...

    @property
    def remarks(self) -> Sequence[Remark]:
        """What a person should know of the recording; whole once it has been decoded."""
        ...

    def __iter__(self) -> Iterator[Samples]:
        """Blocks of half a second or more, as they come, contiguous in media time.

        Raises InvalidAudioError, LimitExceededError, and whatever the source raises.
        """
        ...


@dataclass(frozen=True, slots=True)
class ContainerFormat:
    """The bytes of a media file; which of its audio streams, counted from 0."""

    audio_stream: int | None = 0
    """None for the one that holds what is said, in one of `languages` where they are known."""
    channel: int | None = None
    """As that of PcmFormat."""
    languages: tuple[str, ...] = ()


AudioFormat = PcmFormat | ContainerFormat


def spoken(audio_format: AudioFormat, languages: Sequence[str]) -> AudioFormat:
    """The format of a recording in which these languages are spoken; none where nobody knows."""
    if isinstance(audio_format, PcmFormat):
        return audio_format
    return replace(audio_format, languages=tuple(languages))


def load_libraries() -> None:
    """Imports FFmpeg's libraries, which takes a tenth of a second.

    At the start, by one thread: where the threads of two calls begin with them at once, Python's
    import fails in one of them (CPython 3.11, av and av.error).
    """
    importlib.import_module("av.error")


def told(decoder: Decoder, lacking: str) -> list[Remark]:
    """What a client should know of a recording; damage in sum, where `lacking` may be missing."""
    others = [remark for remark in decoder.remarks if remark.code not in _TOLD_IN_SUM]
    if not decoder.damaged_packets and decoder.missing_s < _REPORTED_MISSING_S:
        return others
    message = (
        f"{decoder.damaged_packets} packets of audio could not be decoded and"
        f" {decoder.missing_s:.1f} s are missing in the file; they are treated as silence, so"
        f" {lacking} may be missing there"
    )
    return [Remark("DAMAGED_AUDIO", message), *others]


def decoder(audio_format: AudioFormat, source: Source, max_audio_s: float) -> Decoder:
    """The decoder of a format; longer recordings than `max_audio_s` raise LimitExceededError."""
    if isinstance(audio_format, PcmFormat):
        return PcmDecoder(audio_format, source, max_audio_s)
    return ContainerDecoder(audio_format, source, max_audio_s)


class _Reader:
    """The source as FFmpeg sees it: readable only, up to the end of each file in it."""

    def __init__(self, source: Source) -> None:
        self.structure = Structure()
        self.at_end = False
        self._source = source
        self._ended = False  # the source
        self._offered = b""  # read, but not known yet to belong to this file
        self._ready = b""  # of this file
        self.n_read = 0
        """How much of it FFmpeg has read since it was opened, bytes."""
        self.begin = 0
        """Where in it FFmpeg has begun to read, bytes."""
        self._tail = bytearray()  # what FFmpeg has read last of a stream whose codec may change

    def read(self, n: int = READ_BYTES) -> bytes:
        """At most `n` bytes; empty at the end of this file."""
        if not self._ready:
            self._ready = self._fresh()
        data, self._ready = self._ready[:n], self._ready[n:]
        if data[:1] == _TS_SYNC if not self.n_read else self._tail:
            self._tail += data
            del self._tail[: max(0, len(self._tail) - _TAIL_BYTES)]
        self.n_read += len(data)
        return data

    def rewind(self, at: int) -> bool:
        """Whether the stream can be read again, from where it can be opened before byte `at`."""
        back = self.n_read - at
        if not 0 < back <= len(self._tail):
            return False
        back += mpegts_start(bytes(self._tail[:-back][-MPEGTS_TABLE_BYTES:]))
        self._ready = bytes(self._tail[-back:]) + self._ready
        self.begin += self.n_read - back
        self.n_read = 0
        self._tail.clear()
        return True

    def index_at_end(self) -> bool:
        """Whether this is an mp4 whose samples come before their index."""
        structure, seen = self.structure, bytearray(self._ready)
        while (
            len(seen) < _MAX_INDEX_SEARCH_BYTES
            and b"moov" not in structure.boxes
            and b"mdat" not in structure.boxes
            and structure.may_be_mp4
            and (data := self._fresh())
        ):
            seen += data
        self._ready = bytes(seen)
        boxes = structure.boxes
        return b"mdat" in boxes and not {b"moov", b"moof"} & set(boxes[: boxes.index(b"mdat")])

    def skip_tag(self) -> None:
        """Leaves out a tag before raw AAC: FFmpeg, which cannot go back, takes it for an mp3's."""
        data = bytearray(self._ready)
        while len(data) < max(ID3_HEADER_BYTES, min(id3_bytes(data) + 6, MAX_TAG_BYTES)):
            if not (more := self._fresh()):
                break
            data += more
        tag = id3_bytes(data)
        self._ready = bytes(data[tag:] if tag and is_adts(data[tag:]) else data)

    def drain(self) -> None:
        """Reads to the end of this file what FFmpeg did not need."""
        self._ready = b""
        while self._fresh():
            pass

    def next_part(self) -> bool:
        """Whether another file follows this one, which has been drained; it is read now."""
        if not self.structure.ended:
            return False
        self.structure = Structure()
        self.n_read = self.begin = 0
        self._tail.clear()
        return True

    def _fresh(self) -> bytes:
        structure = self.structure
        while not structure.ended and not self.at_end:
            data = b"" if self._ended else self._source.read(READ_BYTES)
            self._ended = self._ended or not data
            offered = self._offered + data
            n_taken = structure.take(offered, last=self._ended)
            taken, self._offered = offered[:n_taken], offered[n_taken:]
            self.at_end = self._ended and not self._offered
            if structure.own_end is not None:
                taken = taken[: max(0, structure.own_end - structure.n_bytes + n_taken)]
            if taken:
                return taken
        return b""


class ContainerDecoder:
    """A media file, demuxed and decoded while its bytes arrive.

    An mp4 whose index stands at its end goes to a temporary file first (`spool` opens it). Holes
    in the audio's clock are filled with silence and overlaps dropped, so that a sample's place is
    its media time. A file that was cut off raises InvalidAudioError wherever its format tells its
    length: mp4, Matroska with a known size, wav, w64, aiff, au, caf, avi, flac, mp3 with a Xing
    header, Ogg within a page. Raw streams (MPEG-TS, ADTS) end where they end.
    """

    def __init__(
        self,
        container: ContainerFormat,
        source: Source,
        max_audio_s: float,
        spool: Callable[[], BinaryIO] = tempfile.TemporaryFile,
    ) -> None:
        self._chosen = container.audio_stream
        self._languages = container.languages
        self._taken = 0
        self._track: Track | None = None  # which was chosen of several
        self._reader = _Reader(source)
        self._limit = Limit(max_audio_s)
        self._spool = spool
        self._sound = Sound(channel=container.channel)
        self._shortfall_s = 0.0

    @property
    def start_s(self) -> float:
        """Media time of the first sample, seconds; valid once the first block is out."""
        return self._sound.start_s or 0.0

    @property
    def damaged_packets(self) -> int:
        """Packets that could not be decoded and were replaced by silence."""
        return self._sound.damaged_packets

    @property
    def missing_s(self) -> float:
        """Holes that were filled, and what is promised beyond the end, seconds."""
        return self._sound.filled_s + self._shortfall_s

    @property
    def remarks(self) -> Sequence[Remark]:
        """What a person should know."""
        chosen = [] if self._track is None else [Remark("TRACK_CHOSEN", f"heard: {self._track}")]
        return [*chosen, *self._sound.remarks()]

    def __iter__(self) -> Iterator[Samples]:
        return in_blocks(self._limit.counted(self._pieces()))

    def _pieces(self) -> Iterator[bytes]:
        """All files that the bytes are, one behind the other."""
        import av.error  # noqa: PLC0415 - FFmpeg's libraries load only where audio is decoded

        while True:
            with contextlib.ExitStack() as stack:
                file = self._file(stack)
                try:
                    container = stack.enter_context(open_container(file))
                    yield from self._decoded(container)
                    yield from self._resumed(container)
                    self._sound.unread_bytes = self._reader.structure.unread_bytes
                except (av.error.FFmpegError, MediaRefusedError) as error:
                    raise self._unreadable() from error
            if not self._reader.next_part():
                break
        yield from self._sound.finish()
        self._check_damage()

    def _file(self, stack: contextlib.ExitStack) -> "_Reader | BinaryIO":
        if not self._reader.index_at_end():
            if not self._reader.structure.n_bytes:
                raise no_audio()
            self._reader.skip_tag()
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
        missing = self._reader.structure.missing()
        if missing:
            raise InvalidAudioError(f"the media file is cut off: {missing}; send the whole file")

    def _unreadable(self) -> InvalidAudioError:
        if self._reader.at_end:
            missing = self._reader.structure.missing()
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
        chosen = self._chosen
        if chosen is None:
            track = choose(tracks(container), self._is_spoken)
            chosen = track.index
            self._track = track if track.of > 1 else None
        if chosen >= len(streams) and self._sound.start_s is not None:  # a part that was joined
            chosen = 0
        if chosen >= len(streams):
            has = f"{len(streams)} audio stream" + "s" * (len(streams) > 1)
            sentence = f"the media file has {has}, counted from 0; there is no {self._chosen}"
            field = "audio.container.audio_stream"
            raise InvalidAudioError(sentence, violations=[FieldViolation(field, sentence)])
        self._taken = chosen
        stream = streams[chosen]
        if (encrypted := encryption(stream)) is not None:
            raise InvalidAudioError(f"the media file {encrypted}")
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

    def _is_spoken(self, label: str) -> bool:
        return any(is_language(label, one) for one in self._languages)

    def _decoded(self, container: "InputContainer") -> Iterator[bytes]:
        stream = self._stream(container)
        sound = self._sound
        begin_s = sound.now_s
        yield from sound.decode(container, stream, check=self._check_frame)
        if sound.resume_at is None:
            self._check_length(container, stream, sound.now_s - begin_s)

    def _resumed(self, container: "InputContainer") -> Iterator[bytes]:
        """Opens a stream anew where its codec has changed, or another goes on in its place."""
        sound, reader = self._sound, self._reader
        zero, known = zero_s(container), heard_from_the_start(container)
        stream = container.streams.audio[min(self._taken, len(container.streams.audio) - 1)]
        furthest = 0
        while (at := resumption(sound, reader.n_read)) is not None:
            changed = sound.resume_at is not None
            if reader.begin + at <= furthest:  # where it was opened before: that is damage
                break
            furthest = reader.begin + at
            if not reader.rewind(at):
                if changed:
                    sound.damage("its codec changes")
                break
            with open_container(reader) as again:
                following = successor(again, stream, known, changed=changed)
                if following is None:
                    break
                yield from sound.decode(
                    again, following, zero=zero, goes_on=True, check=self._check_frame
                )
        reader.drain()

    def _check_frame(self, frame: "av.AudioFrame") -> None:
        problem = bad_sample_rate(frame.sample_rate)
        if problem is not None:
            raise InvalidAudioError(f"the media file {problem}")
        channel, n_channels = self._sound.channel, frame.layout.nb_channels
        if channel is not None and channel >= n_channels:
            raise _no_channel(channel, n_channels)

    def _check_length(
        self, container: "InputContainer", stream: "AudioStream", decoded_s: float
    ) -> None:
        self._reader.drain()
        self._check_complete()
        if not decoded_s and (self._sound.encrypted or self._reader.structure.is_scrambled):
            raise InvalidAudioError(f"the media file {ENCRYPTED}")
        if not decoded_s:
            raise InvalidAudioError(
                "the media file's audio stream holds no sound that can be decoded; send another"
                " file"
            )
        declared_s = declared_length_s(container, stream, self._reader.structure)
        shortfall_s = 0.0 if declared_s is None else declared_s - decoded_s
        if container.format.name == "flac" and shortfall_s > _FLAC_LENGTH_TOLERANCE_S:
            raise InvalidAudioError(
                f"the media file is cut off: it ends after {decoded_s:.1f} of its"
                f" {declared_s:.1f} s; send the whole file"
            )
        if shortfall_s > _REPORTED_SHORTFALL_S:  # an unreadable rest; priming takes less
            self._shortfall_s += shortfall_s

    def _check_damage(self) -> None:
        damaged, packets = self._sound.damaged_packets, self._sound.packets
        if damaged > _MAX_DAMAGED_SHARE * packets:
            raise InvalidAudioError(
                f"{damaged} of the {packets} packets of audio are damaged; send an intact copy of"
                " the file"
            )


def _no_channel(channel: int, n_channels: int) -> InvalidAudioError:
    has = f"{n_channels} channel" + "s" * (n_channels > 1)
    sentence = f"the recording has {has}, counted from 0; there is no {channel}"
    return InvalidAudioError(sentence, violations=[FieldViolation("audio.channel", sentence)])
