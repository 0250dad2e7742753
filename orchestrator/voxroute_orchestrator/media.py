"""Media files in, 16 kHz mono PCM out, as a stream: a film is never in memory as a whole.

Zero of the timeline is zero of the container's clock. MPEG streams are the exception: their clock
starts anywhere (a recorded broadcast's at several hours), and players show subtitles relative to
the first picture, so the start of the container is subtracted.
"""

import contextlib
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import av
import av.error
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer

from voxroute_orchestrator import reading
from voxroute_orchestrator.errors import (
    CorruptMediaError,
    MediaError,
    MediaNotFoundError,
    NoAudioError,
)
from voxroute_orchestrator.names import shown
from voxroute_orchestrator.transcript import Media, Note, same_language
from voxroute_serving.media import (
    HlsFolder,
    MediaFile,
    MediaRefusedError,
    MediaStoppedError,
    Watch,
    bad_sample_rate,
    open_container,
)

SAMPLE_RATE = 16_000  # Hz; what Whisper takes
SAMPLE_BYTES = 2  # signed 16-bit little-endian
CHUNK_BYTES = 128 * 1024  # 4.1 s; a message that is neither tiny nor near any size limit

_FREE_RUNNING_CLOCKS = {"mpegts", "mpeg", "hls"}
_INDEXED = {"mov", "mp4", "matroska", "webm"}  # seeking lands on the right timestamp
_PREROLL_S = 2.0  # decoded before the wanted start, so that the decoder is in its stride
_JITTER_S = 0.1  # timestamps that are off by less are rounding, not gaps
_MAX_GAP_S = 3600.0  # a longer one is a broken timestamp
_SHORTFALL_S = 2.0  # how much less audio than promised makes a file look cut off
_TOLD_GAP_S = 0.5
_NAMED_ERRORS = 3

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


def probe(media: Path | Source, *, stream: int | None = None, language: str | None = None) -> Media:
    """What the file is, with the audio stream that `PcmReader` will read.

    The stream is the one that is asked for, else the first that the container labels with the
    spoken language, else the default one, else the first. Blocking. Raises MediaError.
    """
    source = source_of(media)
    watch = Watch(source.label)
    return reading.read(watch, partial(_probe, source, stream, language, watch))


def _probe(source: Source, stream: int | None, language: str | None, watch: Watch) -> Media:
    with open_media(source, watch) as container:
        audio = _choose(container, source.label, stream, language)
        began_s = origin_s(container)
        start_s = _start_s(audio) - began_s
        duration_s = None
        if audio.duration is not None and audio.time_base is not None:
            duration_s = start_s + float(audio.duration * audio.time_base)
        elif container.duration is not None:
            duration_s = container.duration / av.time_base
        return Media(
            path=source.label,
            file=source.path,
            links=source.links,
            title=shown(source.path.stem),
            duration_s=round(duration_s, 3) if duration_s is not None else None,
            audio_start_s=round(start_s, 3),
            format=container.format.name,
            audio_codec=audio.codec_context.name,
            audio_stream=container.streams.audio.index(audio),
            audio_language=_language(audio),
        )


@contextlib.contextmanager
def open_media(source: Source, watch: Watch) -> Generator[InputContainer]:
    """The opened container; what is read of it shows in `watch`. Blocking. Raises MediaError."""
    with contextlib.ExitStack() as stack:
        container = _opened(source, watch, stack)
        try:
            yield container
        except MediaRefusedError as error:
            raise MediaError(f"{source.label} cannot be used: {error}") from error


def _opened(source: Source, watch: Watch, stack: contextlib.ExitStack) -> InputContainer:
    path, label = source.path, source.label
    try:
        if not path.exists():
            raise MediaNotFoundError(f"there is no file {label}; check the path")
        if not path.is_file():
            raise MediaNotFoundError(f"{label} is no regular file; name a media file")
        hls = HlsFolder(path, watch) if source.hls_folder and _is_playlist(path) else None
        file = stack.enter_context(
            contextlib.closing(
                hls.open(hls.name) if hls else MediaFile(path, watch, links=source.links)
            )
        )
        if file.size == 0:
            raise CorruptMediaError(f"{label} is empty; copy or download it again")
        timeout_s = reading.STALL_S if hls else None
        return stack.enter_context(open_container(file, hls, timeout_s))
    except MediaRefusedError as error:
        raise MediaError(f"{label} cannot be used: {error}") from error
    except PermissionError as error:
        raise MediaNotFoundError(f"{label} may not be read; check its permissions") from error
    except (av.error.FFmpegError, OSError, ValueError) as error:
        advice = (
            "a playlist is read where --hls-folder says that its folder may be"
            if _is_playlist(path)
            else "it is another kind of file, or damaged, or its download was cut off"
        )
        raise CorruptMediaError(
            f"{label} cannot be opened as media ({_reason(error)}): {advice}"
        ) from error


def _is_playlist(path: Path) -> bool:
    return path.suffix.lower() in _PLAYLISTS


def _choose(
    container: InputContainer, label: str, wanted: int | None, language: str | None
) -> AudioStream:
    streams = container.streams.audio
    if not streams:
        raise NoAudioError(f"{label} has no audio, so there is nothing to transcribe")
    if wanted is not None:
        if wanted >= len(streams):
            raise NoAudioError(
                f"{label} has {len(streams)} audio stream(s), counted from 0; there is no {wanted}"
            )
        return _usable(streams[wanted], label)
    labelled = [
        s for s in streams if language and (tag := _language(s)) and same_language(tag, language)
    ]
    default = [s for s in streams if "default" in str(s.disposition).lower()]
    return _usable((labelled or default or list(streams))[0], label)


def _usable(stream: AudioStream, label: str) -> AudioStream:
    if getattr(stream, "codec_context", None) is None:
        raise CorruptMediaError(f"{label}: the codec of its audio is not known to this FFmpeg")
    if stream.rate:  # else it is known with the first frame
        _check_rate(stream.rate, label)
    return stream


def _check_rate(rate_hz: int, label: str) -> None:
    problem = bad_sample_rate(rate_hz)
    if problem is not None:
        raise MediaError(f"{label} {problem}")


def _language(stream: AudioStream) -> str | None:
    """The BCP-47 tag of a stream's label, or None where it has none."""
    label = stream.metadata.get("language", "")
    if label in {"", "und"}:
        return None
    import langcodes  # noqa: PLC0415 - a tenth of a second, which recordings without label do without

    try:
        tag = langcodes.standardize_tag(label)
    except ValueError:
        return None
    return None if tag in {"", "und"} else tag


def origin_s(container: InputContainer) -> float:
    """Where on the container's clock the timeline has its zero."""
    names = set(container.format.name.split(","))
    # PyAV's type says int, but a stream of unknown start has None
    start = cast("int | None", container.start_time)
    return start / av.time_base if start is not None and names & _FREE_RUNNING_CLOCKS else 0.0


def _start_s(stream: AudioStream) -> float:
    if stream.start_time is None or stream.time_base is None:
        return 0.0
    return float(stream.start_time * stream.time_base)


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).rstrip(".")


@dataclass(slots=True)
class _Clock:
    """Where the next sample stands, and what had to be done to keep it there."""

    start_s: float
    """Nothing before this is put out."""
    origin_s: float
    first_s: float | None = None
    samples: int = 0  # put out since first_s

    @property
    def now_s(self) -> float:
        base = self.first_s if self.first_s is not None else self.start_s
        return base + self.samples / SAMPLE_RATE


class PcmReader:
    """The audio of a file from `start_s` to `end_s`, as 16 kHz mono s16le, a chunk at a time.

    Sample times are kept true: gaps in the timestamps are filled with silence, overlaps are cut.
    Damage that does not stop the decoder is skipped and told in `notes`. More than `max_s` of audio
    is refused. Blocking; may be read in one thread and closed from another. `watch` shows how the
    read goes. Raises MediaError.
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
        self.notes: list[Note] = []
        self._lock = threading.Lock()
        self._clock = _Clock(start_s=max(0.0, start_s), origin_s=0.0)
        self._chunks = self._read_chunks()
        self._errors = 0
        self._packets = 0
        self._gaps = 0

    @property
    def first_s(self) -> float:
        """The media time of the first sample; known once `read` has returned one."""
        clock = self._clock
        return clock.first_s if clock.first_s is not None else clock.start_s

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
        media = self.media
        # a playlist was opened once only where its folder may be
        path, hls = media.file or Path(media.path), media.format == "hls"
        source = Source(path, media.path, hls, media.links)
        with open_media(source, self.watch) as container:
            stream = container.streams.audio[media.audio_stream]
            self._clock.origin_s = origin_s(container)
            self._seek(container, stream)
            resampler = AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
            for frame in self._frames(container, stream):
                _check_rate(frame.sample_rate, media.path)
                yield from self._place(frame, resampler)
            yield from self._flush(resampler)
        self._judge(media.path)

    def _seek(self, container: InputContainer, stream: AudioStream) -> None:
        """Goes near the start where the container's index can be trusted; else all is decoded."""
        target_s = self._clock.start_s - _PREROLL_S + self._clock.origin_s
        if target_s <= 0 or stream.time_base is None:
            return
        if set(container.format.name.split(",")) & _INDEXED:
            container.seek(int(target_s / stream.time_base), stream=stream, backward=True)

    def _frames(self, container: InputContainer, stream: AudioStream) -> Iterator[AudioFrame]:
        """Decoded frames; a packet that cannot be decoded is counted and skipped."""
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except (av.error.FFmpegError, OSError, IndexError) as error:
                # PyAV 18 raises IndexError where a damaged MPEG stream seems to gain a stream
                self._damage("the container is damaged", error)
                return
            if packet is None:
                return
            try:
                frames = packet.decode()
            except av.error.FFmpegError as error:
                self._damage("a packet cannot be decoded", error)
                continue
            finally:
                self._packets += 1
            yield from frames

    def _damage(self, what: str, error: Exception) -> None:
        self._errors += 1
        if self._errors <= _NAMED_ERRORS:
            self.notes.append(
                Note(
                    source="media",
                    code="DAMAGED_AUDIO",
                    message=f"{what} at {self._clock.now_s:.1f} s ({_reason(error)}); what it"
                    " held is missing from the transcript",
                )
            )

    def _place(self, frame: AudioFrame, resampler: AudioResampler) -> Iterator[bytes]:
        """The frame's samples, where their time says they belong."""
        clock = self._clock
        at_s = frame.time - clock.origin_s if frame.time is not None else None
        try:
            # the timestamp is ours to keep; with one, the resampler would fill small gaps itself
            frame.pts = None
            samples = b"".join(_bytes(out) for out in resampler.resample(frame))
        except (av.error.FFmpegError, ValueError) as error:
            self._damage("the audio changes to a format that cannot be converted", error)
            return
        if clock.first_s is None:
            yield from self._begin(samples, at_s)
            return
        drift_s = 0.0 if at_s is None else at_s - clock.now_s
        if drift_s > _MAX_GAP_S:
            self._damage("a timestamp jumps", ValueError(f"by {drift_s:.0f} s"))
        elif drift_s > _JITTER_S:
            self._gap(drift_s)
            yield from self._silence(round(drift_s * SAMPLE_RATE))
        elif drift_s < -_JITTER_S:
            samples = samples[round(-drift_s * SAMPLE_RATE) * SAMPLE_BYTES :]
        yield self._count(samples)

    def _gap(self, length_s: float) -> None:
        """Tells of a gap that a person would miss; damage may show as nothing else."""
        if length_s < _TOLD_GAP_S:
            return
        self._gaps += 1
        if self._gaps <= _NAMED_ERRORS:
            from_s = self._clock.now_s
            self.notes.append(
                Note(
                    source="media",
                    code="AUDIO_GAP",
                    message=f"the file has no audio between {from_s:.1f} and"
                    f" {from_s + length_s:.1f} s, by design or by damage; it is taken as silence",
                )
            )

    def _begin(self, samples: bytes, at_s: float | None) -> Iterator[bytes]:
        """The first samples that are wanted; what is before the start is dropped."""
        clock = self._clock
        if at_s is None:
            at_s = self.media.audio_start_s
        length_s = len(samples) / SAMPLE_BYTES / SAMPLE_RATE
        if not samples or at_s + length_s <= clock.start_s:
            return
        skip = max(0, round((clock.start_s - at_s) * SAMPLE_RATE))
        clock.first_s = at_s + skip / SAMPLE_RATE
        yield self._count(samples[skip * SAMPLE_BYTES :])

    def _silence(self, samples: int) -> Iterator[bytes]:
        per_chunk = CHUNK_BYTES // SAMPLE_BYTES
        for done in range(0, samples, per_chunk):
            yield self._count(bytes(min(per_chunk, samples - done) * SAMPLE_BYTES))

    def _flush(self, resampler: AudioResampler) -> Iterator[bytes]:
        if self._clock.first_s is None:
            return
        yield self._count(b"".join(_bytes(out) for out in resampler.resample(None)))

    def _count(self, samples: bytes) -> bytes:
        self._clock.samples += len(samples) // SAMPLE_BYTES
        return samples

    def _judge(self, label: str) -> None:
        """Tells of damage as a whole. Raises CorruptMediaError where nothing was decoded."""
        clock = self._clock
        whole = clock.start_s <= max(0.0, self.media.audio_start_s)
        if clock.first_s is None and whole:
            raise CorruptMediaError(
                f"none of the audio of {label} can be decoded ({self._errors} errors in"
                f" {self._packets} packets); the file is damaged or cut off"
            )
        if self._errors > _NAMED_ERRORS:
            self.notes.append(
                Note(
                    source="media",
                    code="DAMAGED_AUDIO",
                    message=f"{self._errors} of {self._packets} packets of audio cannot be"
                    " decoded; what they held is missing from the transcript",
                )
            )
        duration_s = self.media.duration_s
        if duration_s is None or clock.first_s is None:
            return
        missing_s = duration_s - clock.now_s
        if missing_s > max(_SHORTFALL_S, 0.01 * duration_s):
            self.notes.append(
                Note(
                    source="media",
                    code="TRUNCATED_MEDIA",
                    message=f"the audio ends at {clock.now_s:.1f} s, but the file promises"
                    f" {duration_s:.1f} s; it is probably cut off",
                )
            )


def check_length(length_s: float | None, max_s: float | None, label: str) -> None:
    """Raises MediaError where a recording, or what is wanted of it, is too long."""
    if length_s is not None and max_s is not None and length_s > max_s:
        raise MediaError(
            f"{label} has more than the {max_s:g} s of audio that are taken here; name a part of"
            " it by its start and end, or have --max-audio-s raised"
        )


def _bytes(frame: AudioFrame) -> bytes:
    """The frame's samples; its plane may be padded."""
    return bytes(frame.planes[0])[: frame.samples * SAMPLE_BYTES]
