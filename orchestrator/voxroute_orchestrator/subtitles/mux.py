"""Soft subtitles in a copy of the recording: video and audio are copied, packet by packet.

MP4 and its kin keep their kind and get mov_text; everything else becomes Matroska with SubRip. The
texts are put into packets here, because FFmpeg's encoders take ASS and would change what only looks
like its markup.

What a kind of file holds is for FFmpeg's muxers to say. So `plan` has them write the beginning of
the copy, reads that again, and names what is not there, before any work is done.
"""

import errno
import io
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import av.error
import langcodes
from av.container import InputContainer
from av.container.core import Container, Flags
from av.packet import Packet
from av.stream import AttachmentStream, Disposition, Stream
from av.subtitles.stream import SubtitleStream

from voxroute_orchestrator.errors import CorruptMediaError, UsageError
from voxroute_orchestrator.files import atomic
from voxroute_orchestrator.media import Source, open_media, source_of
from voxroute_orchestrator.names import fitted, shown
from voxroute_orchestrator.subtitles.cues import Cue, Track
from voxroute_orchestrator.subtitles.muxed_streams import (
    described,
    is_cover,
    kept_metadata,
    language_label,
    lost_by,
    marks,
    tag_of,
)
from voxroute_serving.audio.media import Watch
from voxroute_serving.audio.reader import zero_s

# FFmpeg's mov_text takes its styles from an ASS header, and does not open without one
_ASS_HEADER = b"""[Script Info]
ScriptType: v4.00+
PlayResX: 384
PlayResY: 288

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, \
Bold, Italic, Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, \
Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""
_MILLISECONDS = Fraction(1, 1000)
_MOV_TEXT_BYTES = 0xFFFF  # of one sample: its length is a 16-bit number
_AHEAD_S = Fraction(30)  # how early cues go in: a muxer sorts what is no more than 10 s apart
_REHEARSED_PACKETS = 3  # of each stream: enough for a muxer to know it
_REHEARSAL_BYTES = 1 << 24  # of packets, at most
_REHEARSAL_PACKETS = 2000
_MIME = {"jpg": "jpeg"}  # where it is not called as files are
_PICTURES = {"mjpeg": "jpg", "png": "png", "bmp": "bmp", "gif": "gif", "webp": "webp"}
_MADE_ANEW = "it is made anew"
_NOT_BESIDE = "it cannot be beside the other streams in a {suffix} file"


@dataclass(frozen=True, slots=True)
class Wrapper:
    """The kind of file that takes the streams: its suffix, FFmpeg's muxer, the subtitles' codec."""

    suffix: str
    muxer: str
    codec: str
    brand: str = ""
    """What an MP4 file says that it is; "" for the muxer's own choice."""

    @property
    def is_matroska(self) -> bool:
        """Whether it is Matroska; else it is of QuickTime's family."""
        return self.muxer == "matroska"

    @property
    def options(self) -> dict[str, str]:
        """The muxer's options."""
        return {"brand": self.brand} if self.brand else {}


_MP4_KINDS: Mapping[str, Wrapper] = {
    ".mp4": Wrapper(".mp4", "mp4", "mov_text"),
    ".m4v": Wrapper(".m4v", "mp4", "mov_text"),
    ".mov": Wrapper(".mov", "mov", "mov_text"),
    ".3gp": Wrapper(".3gp", "3gp", "mov_text"),
    ".3g2": Wrapper(".3g2", "3g2", "mov_text"),
    # not FFmpeg's muxer "ipod", which PyAV (18.1) lets hold no cover and few kinds of sound
    ".m4a": Wrapper(".m4a", "mp4", "mov_text", "M4A "),
    ".m4b": Wrapper(".m4b", "mp4", "mov_text", "M4B "),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What the copy of a recording will be."""

    wrapper: Wrapper
    without: frozenset[int] = frozenset()
    """The streams of the source that it cannot hold, by their index."""
    renamed: frozenset[int] = frozenset()
    """Those whose sample entry it does not take as it is."""
    left_out: tuple[str, ...] = ()
    """All that will not be in it, with the reason, in sentences."""

    def name_for(self, title: str) -> str:
        """The name of the copy."""
        return fitted(title, f".subtitled{self.wrapper.suffix}")


def plan(media: Path | Source, watch: Watch | None = None) -> Plan:
    """What the copy will be, and what it leaves out, found out by making its beginning.

    Blocking. Raises MediaError; UsageError where picture or sound cannot be put into the kind of
    file, nor into Matroska.
    """
    source = source_of(media)
    watch = watch or Watch(source.label)
    reasons: list[str] = []
    for wrapper in _wrappers(source, watch):
        try:
            found = _plan(source, wrapper, watch)
        except _StreamsError as error:
            reasons.append(str(error))
            continue
        if reasons:
            told = f"the copy is a {wrapper.suffix} file, because of {'; '.join(reasons)}"
            found = replace(found, left_out=(told, *found.left_out))
        return found
    raise UsageError(
        f"no copy of {source.label} with subtitles can be made, because of {'; '.join(reasons)};"
        " leave out --mux, and add the subtitles with another program"
    )


def _wrappers(source: Source, watch: Watch) -> tuple[Wrapper, ...]:
    """The kinds of file to try: the source's own, Matroska, and QuickTime for older sound."""
    with open_media(source, watch) as container:
        pictures = any(not is_cover(stream) for stream in container.streams.video)
        matroska = Wrapper(".mkv" if pictures else ".mka", "matroska", "subrip")
        own = matroska
        if "mp4" in container.format.name.split(","):
            brand = container.metadata.get("major_brand", "").strip()
            usual = ".mov" if brand == "qt" else ".mp4" if pictures else ".m4a"
            own = _MP4_KINDS.get(source.path.suffix.lower(), _MP4_KINDS[usual])
        return tuple(dict.fromkeys((own, matroska, _MP4_KINDS[".mov"])))


def _plan(source: Source, wrapper: Wrapper, watch: Watch) -> Plan:
    """The plan for a kind of file. Raises _StreamsError where it does not take picture or sound."""
    with open_media(source, watch) as container:
        streams = {stream.index: described(stream) for stream in container.streams}
        needed = {s.index for s in (*container.streams.video, *container.streams.audio)}
        needed -= {stream.index for stream in container.streams if is_cover(stream)}
        reasons = {
            stream.index: reason
            for stream in container.streams
            if (reason := _no_place(stream, wrapper))
        }
    implied = {index for index, reason in reasons.items() if reason == _MADE_ANEW}
    trial = _Trial(source, wrapper, watch)
    renamed: set[int] = set()
    if trial.fails(without=reasons) is not None:
        for index in streams.keys() - reasons.keys():
            failed = trial.fails(without=streams.keys() - {index})
            if failed is not None and trial.fails(streams.keys() - {index}, {index}) is None:
                renamed.add(index)
            elif failed is not None:
                reasons[index] = f"a {wrapper.suffix} file cannot hold it" + (
                    f" ({failed})" if failed else ""
                )
        if trial.fails(reasons, renamed) is not None:
            others = streams.keys() - needed - reasons.keys()
            reasons |= dict.fromkeys(others, _NOT_BESIDE.format(suffix=wrapper.suffix))
    for index in sorted(needed & reasons.keys()):
        raise _StreamsError(f"{streams[index]}: {reasons[index]}")
    failed = trial.fails(reasons, renamed)
    if failed is not None:
        raise _StreamsError(failed)
    left_out = [
        f"the copy has no {streams[index]} of the source: {reason}"
        for index, reason in sorted(reasons.items())
        if index not in implied
    ]
    return Plan(
        wrapper, frozenset(reasons), frozenset(renamed), (*left_out, *trial.differences(streams))
    )


def mux(
    media: Path | Source,
    target: Path,
    tracks: Sequence[Track],
    watch: Watch | None = None,
    planned: Plan | None = None,
) -> list[str]:
    """Writes a copy of the source with the tracks; returns what was left out, in sentences.

    The first track is shown by default where it is the only one, else the second: the first is
    in the language that is spoken. Other subtitles of the source stay, none of them by default.
    The target is there as a whole or not at all. Blocking; `watch` shows how the copy goes;
    `planned` is what `plan` has found out. Raises MediaError, OutputError; UsageError where the
    streams cannot be put into this kind of file; MediaStoppedError where the watch stops it, and
    nothing of it is left.
    """
    source = source_of(media)
    watch = watch or Watch(source.label)
    watch.check()
    planned = planned or plan(source, watch)
    left_out = list(planned.left_out)
    with atomic(target) as temporary:
        # absolute: a colon in the first folder's name would be taken for a protocol
        path = str(temporary.absolute())
        try:
            _Copy(source, path, planned, tracks, watch).write()
        except _StreamsError as error:  # of a packet that comes later than the plan has looked
            bare, lost = _bare(source, planned, watch)
            left_out += [f"the copy has no {one} of the source: {error}" for one in lost]
            if not lost:
                raise _refusal(source, planned.wrapper, str(error)) from error
            try:
                _Copy(source, path, bare, tracks, watch).write()
            except _StreamsError as again:
                raise _refusal(source, planned.wrapper, str(again)) from again
    return left_out


def _bare(source: Source, planned: Plan, watch: Watch) -> tuple[Plan, list[str]]:
    """The plan without all that is not picture or sound, and what that is."""
    with open_media(source, watch) as container:
        others = [
            stream
            for stream in container.streams
            if stream.index not in planned.without
            and (stream.type not in {"video", "audio"} or is_cover(stream))
        ]
        without = planned.without | {stream.index for stream in others}
        return replace(planned, without=without), [described(stream) for stream in others]


def _refusal(source: Source, wrapper: Wrapper, reason: str) -> UsageError:
    """What is told of streams that the muxer refuses in the midst of the copy."""
    return UsageError(
        f"the streams of {source.label} cannot be copied into a {wrapper.suffix} file ({reason});"
        " leave out --mux, and add the subtitles with another program"
    )


class _StreamsError(Exception):
    """The muxer does not take the streams."""


def _no_place(stream: Stream, wrapper: Wrapper) -> str:
    """Why a kind of file has no place for a stream, as far as that is known without a trial."""
    media = {"video", "audio", "subtitle"}
    if stream.type == "attachment":
        empty = not cast("AttachmentStream", stream).data
        nowhere = f"a {wrapper.suffix} file has no place for attachments"
        return "it is empty" if empty else "" if wrapper.is_matroska else nowhere
    if stream.type == "data":
        nowhere = f"a {wrapper.suffix} file has no place for it" if wrapper.is_matroska else ""
        return _MADE_ANEW if _is_made_by_muxers(stream) else nowhere
    if stream.type not in media:
        return f"{stream.type} streams are not copied"
    return "" if cast("Any", stream.codec_context) else "its codec is not known to this FFmpeg"


def _is_made_by_muxers(stream: Stream) -> bool:
    """Whether it is a track that QuickTime's muxer makes of chapters or of a time code."""
    container = cast("InputContainer", stream.container)
    if "mp4" not in container.format.name.split(","):
        return False
    chapters = len(container.chapters())
    return "timecode" in stream.metadata or (chapters > 0 and stream.frames in {0, chapters})


class _Trial:
    """Beginnings of copies in memory, to find out what the muxer takes and keeps."""

    def __init__(self, source: Source, wrapper: Wrapper, watch: Watch) -> None:
        self._source = source
        self._wrapper = wrapper
        self._watch = watch
        self._last: _Copy | None = None
        self._written = io.BytesIO()

    def fails(self, without: Any, renamed: Any = ()) -> str | None:
        """Why the muxer refuses a copy without these streams; None where it takes the others.

        It is "" where it has no place for a codec at all.
        """
        planned = Plan(self._wrapper, frozenset(without), frozenset(renamed))
        self._written = io.BytesIO()
        cues = [Cue(0, 1000, "-")]
        tracks = [Track("en", cues), Track("hi", cues)]
        self._last = _Copy(
            self._source, self._written, planned, tracks, self._watch, rehearsal=True
        )
        try:
            self._last.write()
        except _StreamsError as error:
            return str(error)
        return None

    def differences(self, streams: Mapping[int, str]) -> list[str]:
        """What of the source the last copy lacks, in sentences; `streams` says what they are."""
        assert self._last is not None  # noqa: S101 - `fails` was called
        self._written.seek(0)
        with (
            open_media(self._source, self._watch) as source,
            av.open(self._written, metadata_errors="replace") as copy,
        ):
            lost = [
                f"the copy's {streams[index]} has no {what}: a {self._wrapper.suffix} file does"
                " not keep it"
                for index, stream in self._last.found(copy).items()
                for what in lost_by(source.streams[index], stream)
            ]
            if len(copy.chapters()) < len(source.chapters()):
                lost.append(
                    f"the copy has {len(copy.chapters())} of {len(source.chapters())} chapters: a"
                    f" {self._wrapper.suffix} file does not keep the others"
                )
            kept = {key.lower() for key in copy.metadata}
            words = [key for key in kept_metadata(source.metadata) if key.lower() not in kept]
            if words:
                lost.append(
                    f"the copy does not say {', '.join(map(shown, sorted(words)))} of the film: a"
                    f" {self._wrapper.suffix} file has no place for it"
                )
        return lost


@dataclass(slots=True, eq=False)
class _Copy:
    """One copy. PyAV's output containers are Any here: their types (18.1) are partly unknown."""

    source: Source
    target: str | io.BytesIO
    plan: Plan
    tracks: Sequence[Track]
    watch: Watch
    rehearsal: bool = False
    _streams: dict[int, Stream] = field(default_factory=dict[int, Stream], init=False)

    def write(self) -> None:
        """Copies everything, or in a rehearsal the beginning. Raises _StreamsError."""
        wrapper = self.plan.wrapper
        with open_media(self.source, self.watch) as source:
            # AVI has no presentation times, and Matroska needs them
            source.flags |= Flags.gen_pts.value
            try:
                target: Any = av.open(
                    self.target,
                    "w",
                    format=wrapper.muxer,
                    options=wrapper.options,
                )
                with target:
                    ours = self._begin(source, target)
                    self._merge(source, target, ours)
            except av.error.FFmpegError as error:
                if _is_of_the_disk(error):
                    raise OSError(error.errno, error.strerror) from error
                raise _StreamsError(_reason(error)) from error

    def _begin(self, source: InputContainer, target: Any) -> list[SubtitleStream]:
        """Adds all streams and writes the header."""
        target.metadata.update(kept_metadata(source.metadata))
        wanted = [s for s in source.streams if s.index not in self.plan.without]
        attached = [s for s in wanted if self._is_attached(s)]
        try:
            for stream in wanted:
                if stream not in attached:
                    self._add(stream, target)
            ours = [self._add_track(n, track, target) for n, track in enumerate(self.tracks)]
            for stream in attached:  # last: Matroska's reader puts them there
                self._attach(stream, target)
        except (ValueError, TypeError) as error:  # PyAV's, for a codec that has no place there
            raise _StreamsError from error
        if chapters := source.chapters():
            target.set_chapters(chapters)
        target.start_encoding()
        return ours

    def _is_attached(self, stream: Stream) -> bool:
        """Whether it is to be a file in the copy rather than a track."""
        return self.plan.wrapper.is_matroska and (stream.type == "attachment" or is_cover(stream))

    def _attach(self, stream: Stream, target: Any) -> None:
        name = stream.metadata.get("filename", "")
        if stream.type == "attachment":
            data = cast("AttachmentStream", stream).data
            kind = stream.metadata.get("mimetype", "") or "application/octet-stream"
        else:
            ending = _PICTURES.get(stream.codec_context.name, stream.codec_context.name)
            data = self._cover(stream.index)
            kind = stream.metadata.get("mimetype", "") or f"image/{_MIME.get(ending, ending)}"
            name = name or f"cover.{ending}"
        attachment = target.add_attachment(name or "file", kind, data)
        if title := stream.metadata.get("title", ""):
            attachment.metadata["title"] = title

    def _cover(self, index: int) -> bytes:
        """The picture. Raises _StreamsError where there is none."""
        with open_media(self.source, self.watch) as source:
            for packet in source.demux(source.streams[index]):
                if packet.size:
                    return bytes(packet)
        raise _StreamsError("it holds no picture")

    def _add(self, stream: Stream, target: Any) -> None:
        copy = target.add_stream_from_template(stream, opaque=True)
        copy.metadata.update(kept_metadata(stream.metadata))
        copy.disposition = marks(stream)
        tag = tag_of(stream)
        if tag and not self.plan.wrapper.is_matroska and stream.index not in self.plan.renamed:
            copy.codec_context.codec_tag = tag  # hvc1, say: else it would be FFmpeg's choice, hev1
        self._streams[stream.index] = copy

    def found(self, container: Container) -> dict[int, Stream]:
        """The streams of the copy as it is read again, by the index that they have in the source.

        Covers are at the end of a file then, wherever they were written.
        """
        of_source = sorted(self._streams, key=lambda index: is_cover(self._streams[index]))
        tracks = [s for s in container.streams if not is_cover(s)]
        covers = [s for s in container.streams if is_cover(s)]
        n_covers = sum(is_cover(copy) for copy in self._streams.values())
        n_tracks = len(of_source) - n_covers
        return dict(zip(of_source, [*tracks[:n_tracks], *covers[:n_covers]], strict=False))

    def _add_track(self, number: int, track: Track, target: Any) -> SubtitleStream:
        stream = cast("SubtitleStream", target.add_stream(self.plan.wrapper.codec))
        stream.codec_context.subtitle_header = _ASS_HEADER
        stream.codec_context.time_base = _MILLISECONDS
        stream.time_base = _MILLISECONDS
        stream.metadata["language"] = language_label(track.language, self.plan.wrapper.muxer)
        stream.metadata["title"] = langcodes.get(track.language).display_name()
        if number == min(1, len(self.tracks) - 1):
            stream.disposition = Disposition.default
        return stream

    def _merge(self, source: InputContainer, target: Any, ours: Sequence[SubtitleStream]) -> None:
        """Copies the packets, each cue going in shortly before its time has come."""
        began_s = zero_s(source)
        waiting = sorted(
            (
                (cue.start_ms, number, cue)
                for number, track in enumerate(self.tracks)
                for cue in track.cues
            ),
            key=lambda item: item[:2],
            reverse=True,
        )

        def put(*, until_s: Fraction | None) -> None:
            while waiting and (until_s is None or waiting[-1][0] <= until_s * 1000):
                _, number, cue = waiting.pop()
                target.mux(self._packet(cue, ours[number], began_s))

        put(until_s=_AHEAD_S)
        for packet in self._wanted(source):
            self.watch.check()
            copy = self._streams[packet.stream.index]
            at = packet.dts if packet.dts is not None else packet.pts
            if at is not None:
                put(until_s=at * packet.time_base - Fraction(began_s) + _AHEAD_S)
            packet.stream = copy
            target.mux(packet)
        put(until_s=None)

    def _wanted(self, source: InputContainer) -> "Iterator[Packet[Stream]]":
        """The packets that are copied; in a rehearsal as many as show what becomes of them."""
        missing = dict.fromkeys(self._streams, _REHEARSED_PACKETS)
        size = number = 0
        for packet in self._packets(source):
            index = packet.stream.index
            if index not in self._streams or packet.size == 0:  # the last of each stream is empty
                continue
            yield packet
            if not self.rehearsal:
                continue
            missing[index] -= 1
            number, size = number + 1, size + packet.size
            seldom = {"subtitle", "data"}  # they may begin an hour later
            waited_for = (
                left > 0
                and self._streams[index].type not in seldom
                and not is_cover(self._streams[index])
                for index, left in missing.items()
            )
            if number >= _REHEARSAL_PACKETS or size >= _REHEARSAL_BYTES or not any(waited_for):
                return

    def _packets(self, source: InputContainer) -> "Iterator[Packet[Stream]]":
        try:
            yield from source.demux()
        except (av.error.FFmpegError, OSError) as error:
            raise CorruptMediaError(
                f"{self.source.label} is damaged ({error.strerror}), so it cannot be copied; leave"
                " out --mux"
            ) from error

    def _packet(self, cue: Cue, stream: SubtitleStream, began_s: float) -> "Packet[Stream]":
        text = "\n".join(line for line in cue.text.splitlines() if line.strip()).encode()
        if self.plan.wrapper.codec == "mov_text":
            text = text[:_MOV_TEXT_BYTES].decode(errors="ignore").encode()
            text = struct.pack(">H", len(text)) + text
        packet = Packet(text)
        packet.stream = stream
        packet.time_base = _MILLISECONDS
        packet.pts = packet.dts = cue.start_ms + round(began_s * 1000)
        packet.duration = cue.end_ms - cue.start_ms
        packet.is_keyframe = True
        return packet


def _reason(error: Exception) -> str:
    """Why a muxer refuses, as it says it, in one line."""
    text = str(getattr(error, "strerror", None) or error)
    return shown(re.sub(r"\s+", " ", text)).rstrip(".")


def _is_of_the_disk(error: av.error.FFmpegError) -> bool:
    """Whether the system, not FFmpeg, has refused; EINVAL is what muxers say of packets."""
    return error.errno in errno.errorcode and error.errno != errno.EINVAL
