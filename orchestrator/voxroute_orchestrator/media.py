"""Media files in, 16 kHz mono PCM out, as a stream: a film is never in memory as a whole.

How a file is read is `voxroute_serving`'s, and the same as in the services; here are the files, the
part of a recording that is wanted, and what a person is told.
"""

import contextlib
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import av
import av.error
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer

from voxroute_orchestrator import reading
from voxroute_orchestrator.errors import (
    CorruptMediaError,
    MediaError,
    MediaNotFoundError,
    NoAudioError,
    UsageError,
)
from voxroute_orchestrator.names import shown
from voxroute_orchestrator.transcript import Media, Note
from voxroute_serving.audio.media import (
    SAMPLE_BYTES,
    SAMPLE_RATE,
    FilePart,
    HlsFolder,
    MediaFile,
    MediaRefusedError,
    MediaStoppedError,
    Readable,
    Watch,
    bad_sample_rate,
    open_container,
)
from voxroute_serving.audio.reader import (
    COUNTED,
    Sound,
    formats,
    heard_from_the_start,
    reason_of,
    resumption,
    successor,
    zero_s,
)
from voxroute_serving.audio.structure import MPEGTS_TABLE_BYTES, Structure, mpegts_start, parts_of
from voxroute_serving.audio.tracks import (
    ENCRYPTED,
    Track,
    choose,
    codec_context,
    declared_length_s,
    encryption,
    is_language,
    stream_length_s,
    tracks,
)

CHUNK_BYTES = 128 * 1024  # 4.1 s; a message that is neither tiny nor near any size limit

SEEKABLE = frozenset({"mov", "mp4", "matroska", "webm"})  # to the right timestamp
_TIMED_BY_THEIR_ENDS = {"mpegts", "mpeg"}
_LEAST_BYTES_PER_S = 3000  # of such a stream, with the least sound that is understood
_PREROLL_S = 2.0  # decoded before the wanted start, so that the decoder is in its stride
_SHORTFALL_S = 2.0  # how much less audio than promised makes a file look cut off
_NAMED_FILES = 3
_PLAYLISTS = {".m3u8", ".m3u"}


@dataclass(frozen=True, slots=True)
class Source:
    """A recording, and how it is opened."""

    path: Path
    name: str = ""
    """What people know it by; else its path."""
    hls_folder: bool = False
    """Whether a playlist may open what is in its folder."""
    links: bool = True
    """Whether links in the path are followed; not where all were resolved before."""

    @property
    def label(self) -> str:
        """What messages call it."""
        return shown(self.name or self.path)


def source_of(media: Path | Source) -> Source:
    """The recording of a path, known by it."""
    return media if isinstance(media, Source) else Source(media)


def probe(
    media: Path | Source,
    *,
    stream: int | None = None,
    language: str | None = None,
    channel: int | None = None,
) -> Media:
    """What the file is, with the audio stream that `PcmReader` will read, and the channel of it.

    The stream is the one that is asked for, else the one that `tracks.choose` takes. Blocking.
    Raises MediaError.
    """
    source = source_of(media)
    watch = Watch(source.label)
    return reading.read(watch, partial(_probe, source, stream, language, channel, watch))


def _probe(
    source: Source, stream: int | None, language: str | None, channel: int | None, watch: Watch
) -> Media:
    with _opened(source, watch) as opened, contextlib.closing(opened.containers()) as containers:
        first = next(containers)
        media = _described(first, opened, stream, language)
        lengths_s = [_length_s(first, media.duration_s, opened, 0)]
        for number, other in enumerate(containers, 1):
            lengths_s.append(_length_s(other, (other.duration or 0) / av.time_base, opened, number))
    told_s = [one for one in lengths_s if one is not None]
    duration_s = round(sum(told_s), 3) if len(told_s) == len(lengths_s) else None
    return media.model_copy(update={"duration_s": duration_s, "audio_channel": channel})


def _length_s(
    container: InputContainer, said_s: float | None, opened: "_Opened", number: int
) -> float | None:
    """The length of a part, seconds, of which FFmpeg says `said_s`; None where it is not known.

    FFmpeg estimates that of raw streams by their first packets, so theirs are counted. In an MPEG
    stream it takes the last time less the first, which is a day where the clock has stepped.
    """
    names = formats(container)
    structure = opened.structures[number] if opened.structures else None
    if names & COUNTED and not (structure and structure.tells_length):
        with contextlib.suppress(av.error.FFmpegError, OSError):
            stream = container.streams.audio[0]
            base = float(stream.time_base or 0)
            return sum((one.duration or 0) * base for one in container.demux(stream))
    if structure and said_s and names & _TIMED_BY_THEIR_ENDS:
        return said_s if said_s * _LEAST_BYTES_PER_S < structure.n_bytes else None
    return said_s


def _described(
    container: InputContainer, opened: "_Opened", stream: int | None, language: str | None
) -> Media:
    source, structure = opened.source, next(iter(opened.structures), None)
    track = _choose(container, source.label, stream, language)
    audio = _usable(container.streams.audio[track.index], source.label)
    start_s = _start_s(audio) - zero_s(container)
    duration_s = None
    if (length_s := stream_length_s(audio, structure)) is not None:
        duration_s = start_s + length_s
    elif container.duration is not None:
        duration_s = container.duration / av.time_base
    return Media(
        path=source.label,
        file=source.path,
        links=source.links,
        title=shown(source.path.stem),
        duration_s=round(duration_s, 3) if duration_s is not None else None,
        audio_start_s=max(0.0, round(start_s, 3)),
        format=container.format.name,
        audio_codec=audio.codec_context.name,
        audio_stream=track.index,
        audio_track=str(track),
        audio_channels=audio.codec_context.channels,
        audio_language=_tag(track.language),
    )


def tracks_of(media: Path | Source) -> list[Track]:
    """The audio tracks of a file, in its order. Blocking. Raises MediaError."""
    source = source_of(media)
    watch = Watch(source.label)

    def look() -> list[Track]:
        with open_media(source, watch) as container:
            return tracks(container)

    return reading.read(watch, look)


@contextlib.contextmanager
def open_media(source: Source, watch: Watch) -> Generator[InputContainer]:
    """The opened container; what is read of it shows in `watch`. Blocking. Raises MediaError.

    Of files that are joined, the first one.
    """
    with _opened(source, watch) as opened, contextlib.closing(opened.containers()) as containers:
        yield next(containers)


@contextlib.contextmanager
def _opened(source: Source, watch: Watch) -> "Generator[_Opened]":
    """The file, whose containers are opened one after the other. Raises MediaError."""
    path, label = source.path, source.label
    with contextlib.ExitStack() as stack:
        with _explained(source):
            if not path.exists():
                raise MediaNotFoundError(f"there is no file {label}; check the path")
            if not path.is_file():
                raise MediaNotFoundError(f"{label} is no regular file; name a media file")
            hls = HlsFolder(path, watch) if source.hls_folder and _is_playlist(path) else None
            file = stack.enter_context(
                contextlib.closing(
                    hls.playlist() if hls else MediaFile(path, watch, links=source.links)
                )
            )
            if file.size == 0:
                raise CorruptMediaError(f"{label} is empty; copy or download it again")
        try:
            yield _Opened(source, file, hls)
        except MediaRefusedError as error:
            raise MediaError(f"{label} cannot be used: {error}") from error


@contextlib.contextmanager
def _explained(source: Source) -> Generator[None]:
    """Turns what an opening raises into MediaError."""
    path, label = source.path, source.label
    try:
        yield
    except MediaRefusedError as error:
        raise MediaError(f"{label} cannot be used: {error}") from error
    except PermissionError as error:
        raise MediaNotFoundError(f"{label} may not be read; check its permissions") from error
    except (av.error.FFmpegError, OSError, ValueError) as error:
        if _is_playlist(path) and not source.hls_folder:
            sentence = (
                f"{label} is a playlist of other files; with --hls-folder it may open those in its"
                " folder and below"
            )
        else:
            sentence = (
                f"{label} cannot be opened as media ({reason_of(error)}): it is another kind of"
                " file, or damaged, or its download was cut off"
            )
        raise CorruptMediaError(sentence) from error


class _Forward:
    """A file that is read once, from its start."""

    def __init__(self, file: FilePart) -> None:
        self.name = file.name
        self.read = file.read


class _Opened:
    """A file that is open, and the recordings in it: one, or several that were joined."""

    def __init__(self, source: Source, file: MediaFile, hls: HlsFolder | None) -> None:
        self.hls = hls
        self.structures: list[Structure] = []
        self.places: list[tuple[int, int]] = []
        self.source = source
        self._file = file

    def containers(self, *, forward: bool = False) -> Generator[InputContainer]:
        """Each of them, opened; the one before is closed. Raises MediaError.

        `forward` reads joined ones as the services do, whose bytes go by once: where FFmpeg can
        seek, it cuts the ends of some in another way.
        """
        if self.hls is not None:
            with self._container(self._file) as container:
                yield container
                if self.hls.refused is not None:
                    raise self.hls.refused
            return
        with _explained(self.source):
            found = parts_of(self._file)
            self._file.seek(0)
        self.structures = [structure for _, _, structure in found]
        self.places = [(begin, end) for begin, end, _ in found]
        for begin, end, structure in found:
            file: Readable = self._file
            if len(found) > 1 or end < self._file.size:
                part = FilePart(self._file, begin, end)
                joined = forward and len(found) > 1 and not structure.boxes
                file = _Forward(part) if joined else part
            with self._container(file) as container:
                yield container

    @contextlib.contextmanager
    def resumed(self, begin: int, end: int, at: int) -> Generator[tuple[InputContainer, int]]:
        """A part from where it can be opened before its byte `at`; and which byte that is."""
        part = FilePart(self._file, begin, end)
        table_at = max(0, at - MPEGTS_TABLE_BYTES)
        part.seek(table_at)
        at -= mpegts_start(part.read(at - table_at))
        with self._container(FilePart(self._file, begin + at, end)) as container:
            yield container, at

    @contextlib.contextmanager
    def _container(self, file: Readable) -> Generator[InputContainer]:
        with contextlib.ExitStack() as stack:
            timeout_s = reading.STALL_S if self.hls else None
            try:
                with _explained(self.source):
                    container = stack.enter_context(open_container(file, self.hls, timeout_s))
            except CorruptMediaError as error:
                if self.hls is None or not self.hls.missing:
                    raise
                raise MediaError(f"{self.source.label}: {_missing(self.hls.missing)}") from error
            yield container


def _is_playlist(path: Path) -> bool:
    return path.suffix.lower() in _PLAYLISTS


def _choose(
    container: InputContainer, label: str, wanted: int | None, language: str | None
) -> Track:
    found = tracks(container)
    if not found:
        raise NoAudioError(f"{label} has no audio, so there is nothing to transcribe")
    if wanted is None:
        return choose(found, partial(is_language, tag=language) if language else None)
    if wanted >= len(found):
        raise NoAudioError(
            f"{label} has {len(found)} audio stream(s), counted from 0; there is no {wanted}"
        )
    return found[wanted]


def _usable(stream: AudioStream, label: str) -> AudioStream:
    if (encrypted := encryption(stream)) is not None:
        raise MediaError(f"{label} {encrypted}")
    if codec_context(stream) is None:
        raise CorruptMediaError(f"{label}: the codec of its audio is not known to this FFmpeg")
    if stream.rate:  # else it is known with the first frame
        _check_rate(stream.rate, label)
    return stream


def _check_rate(rate_hz: int, label: str) -> None:
    problem = bad_sample_rate(rate_hz)
    if problem is not None:
        raise MediaError(f"{label} {problem}")


def _tag(label: str) -> str | None:
    """The BCP-47 tag of a stream's label, or None where it has none."""
    if label in {"", "und"}:
        return None
    import langcodes  # noqa: PLC0415 - a tenth of a second, which files without label save

    try:
        tag = langcodes.standardize_tag(label)
    except ValueError:
        return None
    return None if tag in {"", "und"} else tag


def _start_s(stream: AudioStream) -> float:
    if stream.start_time is None or stream.time_base is None:
        return 0.0
    return float(stream.start_time * stream.time_base)


class PcmReader:
    """The audio of a file from `start_s` to `end_s`, as 16 kHz mono s16le, a chunk at a time.

    Sample times are those of `reader.Sound`, and what it had to do is told in `notes`, as is
    damage that does not stop the decoder. More than `max_s` of audio is refused. Blocking; may be
    read in one thread and closed from another. `watch` shows how the read goes. Raises MediaError.
    """

    def __init__(
        self,
        media: Media,
        *,
        start_s: float = 0.0,
        end_s: float | None = None,
        max_s: float | None = None,
    ) -> None:
        self.media = media
        self._end_s = end_s
        self._max_s = max_s
        self.watch = Watch(media.path)
        self._lock = threading.Lock()
        self._start_s = max(0.0, start_s)
        self._sound = Sound(channel=media.audio_channel, declared_end_s=media.duration_s)
        self._chunks = self._read_chunks()
        self._at_the_end: list[Note] = []

    @property
    def first_s(self) -> float:
        """The media time of the first sample; known once `read` has returned one."""
        begin_s = self._sound.start_s
        return self._start_s if begin_s is None else begin_s + self._n_before / SAMPLE_RATE

    @property
    def notes(self) -> list[Note]:
        """What a person should know of what has been read."""
        remarks = self._sound.remarks()
        told = [Note(source="media", code=code, message=message) for code, message in remarks]
        return told + self._at_the_end

    @property
    def _n_before(self) -> int:
        """Samples that are decoded and lie before the wanted start."""
        return max(0, round((self._start_s - (self._sound.start_s or 0.0)) * SAMPLE_RATE))

    def read(self) -> bytes:
        """The next chunk; b"" at the end, and once the reader was closed."""
        with self._lock, contextlib.suppress(MediaStoppedError):
            try:
                return next(self._chunks, b"")
            finally:
                if self.watch.stopped:
                    self._chunks.close()
        return b""

    def close(self) -> None:
        """Ends reading, at once: a read that stands still closes the file when it comes back."""
        self.watch.stop()
        if self._lock.acquire(blocking=False):
            threading.Thread(target=self._close, name="media closing", daemon=True).start()

    def _close(self) -> None:
        self._chunks.close()
        self._lock.release()

    def _read_chunks(self) -> Generator[bytes]:
        """Whole chunks out of pieces of any size."""
        pending = bytearray()
        for piece in self._wanted_pieces():
            pending += piece
            while len(pending) >= CHUNK_BYTES:
                yield bytes(pending[:CHUNK_BYTES])
                del pending[:CHUNK_BYTES]
        if pending:
            yield bytes(pending)

    def _wanted_pieces(self) -> Iterator[bytes]:
        """The pieces up to the wanted end; what follows is not decoded."""
        put_out = 0
        for piece in self._pieces():
            if self._end_s is not None:
                left = round((self._end_s - self.first_s) * SAMPLE_RATE) * SAMPLE_BYTES - put_out
                if left <= len(piece):
                    yield piece[: max(0, left)]
                    return
            put_out += len(piece)
            check_length(put_out / SAMPLE_BYTES / SAMPLE_RATE, self._max_s, self.media.path)
            yield piece

    def _pieces(self) -> Iterator[bytes]:
        left = -1  # bytes before the wanted start; not known before the first sample is
        for piece in self._all_pieces():
            if left < 0:
                left = self._n_before * SAMPLE_BYTES
            dropped = min(left, len(piece))
            left -= dropped
            if dropped < len(piece):
                yield piece[dropped:]

    def _all_pieces(self) -> Iterator[bytes]:
        media, sound = self.media, self._sound
        # a playlist was opened once only where its folder may be
        path, is_hls = media.file or Path(media.path), media.format == "hls"
        source = Source(path, media.path, is_hls, media.links)
        structure: Structure | None = None
        promised_s: float | None = None
        with (
            _opened(source, self.watch) as opened,
            contextlib.closing(opened.containers(forward=True)) as containers,
        ):
            for number, container in enumerate(containers):
                structure = opened.structures[number] if opened.structures else None
                streams = container.streams.audio
                if number and not streams:
                    continue
                stream = streams[min(media.audio_stream, len(streams) - 1)]
                begin_s = sound.now_s
                if len(opened.structures) <= 1:
                    self._seek(container)
                yield from self._decoded(container, stream, opened.hls)
                yield from self._resumed(opened, number, container, stream)
                sound.unread_bytes = structure.unread_bytes if structure else 0
                length_s = declared_length_s(container, stream, structure)
                promised_s = None if length_s is None else begin_s + length_s
                if not number and length_s is not None:
                    promised_s = length_s + _start_s(stream) - zero_s(container)
            yield from sound.finish()
            if opened.hls is not None and opened.hls.missing:
                told = f"{_missing(opened.hls.missing)}; what they hold is left out"
                self._at_the_end.append(Note(source="media", code="MISSING_SEGMENTS", message=told))
        self._judge(promised_s, structure)

    def _decoded(
        self, container: InputContainer, stream: AudioStream, hls: HlsFolder | None
    ) -> Iterator[bytes]:
        """All that can be decoded; a container that cannot be read on is told."""
        zero, steps = zero_s(container), None
        if hls is not None:
            zero, steps = zero - hls.missing_before_s, hls.steps
        try:
            yield from self._sound.decode(
                container, stream, zero=zero, steps=steps, check=self._check
            )
        except MediaRefusedError:
            raise
        except (av.error.FFmpegError, OSError) as error:
            self._sound.damage(f"the container is damaged: {reason_of(error)}")

    def _resumed(
        self, opened: _Opened, number: int, container: InputContainer, stream: AudioStream
    ) -> Iterator[bytes]:
        """Opens a stream anew where its codec has changed, or another goes on in its place."""
        if not opened.places:
            return
        begin, end = opened.places[number]
        sound, base, zero = self._sound, 0, zero_s(container)
        known = heard_from_the_start(container)
        furthest = 0
        while (at := resumption(sound, end - begin - base)) is not None:
            changed = sound.resume_at is not None
            if base + at <= furthest:  # where it was opened before: that is damage
                return
            furthest = base + at
            with opened.resumed(begin, end, base + at) as (again, base):
                following = successor(again, stream, known, changed=changed)
                if following is None:
                    return
                yield from sound.decode(
                    again, following, zero=zero, goes_on=True, check=self._check
                )

    def _check(self, frame: AudioFrame) -> None:
        _check_rate(frame.sample_rate, self.media.path)
        channel, n_channels = self.media.audio_channel, frame.layout.nb_channels
        if channel is not None and channel >= n_channels:
            raise UsageError(
                f"{self.media.path} has {n_channels} channel{'s' * (n_channels > 1)}, counted from"
                f" 0; there is no {channel}, so choose another --channel, or none"
            )

    def _seek(self, container: InputContainer) -> None:
        """Goes near the start where the container's index can be trusted; else all is decoded."""
        target_s = self._start_s - _PREROLL_S + zero_s(container)
        if target_s > 0 and formats(container) & SEEKABLE:
            # by the pictures, if there are any: Matroska's index has nothing else then
            container.seek(int(target_s * av.time_base), backward=True)

    def _judge(self, promised_s: float | None, structure: Structure | None) -> None:
        """Tells of damage as a whole. Raises CorruptMediaError where nothing was decoded."""
        sound, label = self._sound, self.media.path
        whole = self._start_s <= max(0.0, self.media.audio_start_s)
        scrambled = structure is not None and structure.is_scrambled
        if sound.start_s is None and (sound.encrypted or scrambled):
            raise MediaError(f"{label} {ENCRYPTED}")
        missing = structure.missing() if structure is not None else None
        if sound.start_s is None and whole and not sound.packets and not missing:
            raise NoAudioError(f"{label} has a track of audio that is empty; there is no sound")
        if sound.start_s is None and whole:
            raise CorruptMediaError(
                f"none of the audio of {label} can be decoded ({sound.damaged_packets} errors in"
                f" {sound.packets} packets); the file is damaged or cut off"
            )
        if missing:
            self._cut_off(f"the file is cut off: {missing}; the audio ends at {sound.now_s:.1f} s")
            return
        if promised_s is None or sound.start_s is None:
            return
        if promised_s - sound.now_s > max(_SHORTFALL_S, 0.01 * promised_s):
            self._cut_off(
                f"the audio ends at {sound.now_s:.1f} s, but the file promises {promised_s:.1f} s;"
                " it is probably cut off"
            )

    def _cut_off(self, message: str) -> None:
        self._at_the_end.append(Note(source="media", code="TRUNCATED_MEDIA", message=message))


def _missing(names: list[str]) -> str:
    named = ", ".join(names[:_NAMED_FILES]) + ", ..." * (len(names) > _NAMED_FILES)
    are = "is" if len(names) == 1 else "are"
    return f"{len(names)} of the playlist's files {are} not there ({named})"


def check_length(length_s: float | None, max_s: float | None, label: str) -> None:
    """Raises MediaError where a recording, or what is wanted of it, is too long."""
    if length_s is not None and max_s is not None and length_s > max_s:
        raise MediaError(
            f"{label} has more than the {max_s:g} s of audio that are taken here; name a part of"
            " it by its start and end, or have --max-audio-s raised"
        )
