"""Soft subtitles in a copy of the recording: video and audio are copied, packet by packet.

MP4, M4V, MOV and M4A keep their kind and get mov_text; everything else becomes Matroska with
SubRip. The texts are put into packets here, because FFmpeg's encoders take ASS and would change
what only looks like its markup.
"""

import errno
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import av.error
import langcodes
from av.container import InputContainer
from av.container.core import Flags
from av.packet import Packet
from av.stream import AttachmentStream, Disposition, Stream
from av.subtitles.stream import SubtitleStream

from voxroute_orchestrator.cues import Cue, Track
from voxroute_orchestrator.errors import CorruptMediaError, UsageError
from voxroute_orchestrator.media import Source, open_media, source_of
from voxroute_orchestrator.output import atomic
from voxroute_serving.decoding import zero_s
from voxroute_serving.media import Watch

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
_QUICKTIME = {"fre": "fra", "swe": "sve"}  # FFmpeg's names of QuickTime's codes, where they differ
_MADE_BY_THE_MUXER = {
    "DURATION", "ENCODER", "MAJOR_BRAND", "MINOR_VERSION", "COMPATIBLE_BRANDS", "CREATION_TIME",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wrapper:
    """The kind of file that takes the streams: its suffix, FFmpeg's muxer, the subtitles' codec."""

    suffix: str
    muxer: str
    codec: str


_MP4_KINDS: Mapping[str, Wrapper] = {
    ".mp4": Wrapper(".mp4", "mp4", "mov_text"),
    ".m4v": Wrapper(".m4v", "mp4", "mov_text"),
    ".mov": Wrapper(".mov", "mov", "mov_text"),
    ".m4a": Wrapper(".m4a", "ipod", "mov_text"),
}


def wrapper_of(source: Source) -> Wrapper:
    """What the copy of the recording will be. Raises MediaError where it cannot be opened."""
    suffix = source.path.suffix.lower()
    with open_media(source, Watch(source.label)) as container:
        if "mp4" in container.format.name.split(",") and suffix in _MP4_KINDS:
            return _MP4_KINDS[suffix]
        pictures = any(not _is_cover(stream) for stream in container.streams.video)
        return Wrapper(".mkv" if pictures else ".mka", "matroska", "subrip")


def muxed_name(title: str, media: Path | Source) -> str:
    """The name of the copy with subtitles. Blocking. Raises MediaError."""
    return f"{title}.subtitled{wrapper_of(source_of(media)).suffix}"


def mux(
    media: Path | Source, target: Path, tracks: Sequence[Track], watch: Watch | None = None
) -> list[str]:
    """Writes a copy of the source with the tracks; returns what was left out, in sentences.

    The first track is shown by default where it is the only one, else the second: the first is
    in the language that is spoken. Other subtitles of the source stay, none of them by default.
    The target is there as a whole or not at all. Blocking; `watch` shows how the copy goes. Raises
    MediaError, OutputError; UsageError where the streams cannot be put into this kind of file;
    MediaStoppedError where the watch stops it, and nothing of it is left.
    """
    source = source_of(media)
    wrapper = wrapper_of(source)
    watch = watch or Watch(source.label)
    with atomic(target) as temporary:
        try:
            return _Copy(source, temporary, wrapper, tracks, watch, everything=True).write()
        except _StreamsError:
            # an old codec of subtitles, say; pictures and sound are what cannot be done without
            pass
        try:
            return _Copy(source, temporary, wrapper, tracks, watch, everything=False).write()
        except _StreamsError as error:
            raise UsageError(
                f"the streams of {source.label} cannot be copied into a {wrapper.suffix} file"
                f" ({error}); leave out --mux, and add the subtitles with another program"
            ) from error


class _StreamsError(Exception):
    """The muxer does not take the streams."""


class _Copy:
    """One attempt. PyAV's output containers are Any here: their types (18.1) are partly unknown."""

    def __init__(
        self,
        source: Source,
        target: Path,
        wrapper: Wrapper,
        tracks: Sequence[Track],
        watch: Watch,
        *,
        everything: bool,
    ) -> None:
        self._source = source
        self._target_path = target
        self._wrapper = wrapper
        self._tracks = tracks
        self._watch = watch
        self._everything = everything
        self._streams: dict[int, Stream] = {}
        self._left_out: list[str] = []

    def write(self) -> list[str]:
        """Copies everything; returns what was left out."""
        with open_media(self._source, self._watch) as source:
            # AVI has no presentation times, and Matroska needs them
            source.flags |= Flags.gen_pts.value
            try:
                # absolute: a colon in the first folder's name would be taken for a protocol
                path = str(self._target_path.absolute())
                target: Any = av.open(path, "w", format=self._wrapper.muxer)
                with target:
                    ours = self._begin(source, target)
                    self._merge(source, target, ours)
            except av.error.FFmpegError as error:
                if _is_of_the_disk(error):
                    raise OSError(error.errno, error.strerror) from error
                raise _StreamsError(str(error)) from error
        return self._left_out

    def _begin(self, source: InputContainer, target: Any) -> list[SubtitleStream]:
        """Adds all streams and writes the header."""
        target.metadata.update(_kept(source.metadata))
        for stream in source.streams:
            try:
                self._add(stream, target)
            except (ValueError, TypeError) as error:  # PyAV's, for a codec that has no place there
                raise _StreamsError(str(error)) from error
        ours = [self._add_track(number, track, target) for number, track in enumerate(self._tracks)]
        if chapters := source.chapters():
            target.set_chapters(chapters)
        target.start_encoding()
        return ours

    def _add(self, stream: Stream, target: Any) -> None:
        matroska = self._wrapper.muxer == "matroska"
        if stream.type == "attachment" and matroska and self._everything:
            font = cast("AttachmentStream", stream)
            target.add_attachment(font.name or "file", font.mimetype or "", font.data)
            return
        wanted = stream.type in {"video", "audio"} and not (matroska and _is_cover(stream))
        if not wanted and not (self._everything and stream.type == "subtitle"):
            kind = "cover picture" if _is_cover(stream) else f"{stream.type} stream"
            self._left_out.append(f"the copy has no {kind} {stream.index} of the source")
            return
        copy = target.add_stream_from_template(stream, opaque=True)
        copy.metadata.update(_kept(stream.metadata))
        if stream.type == "subtitle":
            copy.disposition = Disposition(stream.disposition & ~Disposition.default)
        else:
            copy.disposition = stream.disposition
        self._streams[stream.index] = copy

    def _add_track(self, number: int, track: Track, target: Any) -> SubtitleStream:
        stream = cast("SubtitleStream", target.add_stream(self._wrapper.codec))
        stream.codec_context.subtitle_header = _ASS_HEADER
        stream.codec_context.time_base = _MILLISECONDS
        stream.time_base = _MILLISECONDS
        stream.metadata["language"] = _label(track.language, self._wrapper.muxer)
        stream.metadata["title"] = langcodes.get(track.language).display_name()
        if number == min(1, len(self._tracks) - 1):
            stream.disposition = Disposition.default
        return stream

    def _merge(self, source: InputContainer, target: Any, ours: Sequence[SubtitleStream]) -> None:
        """Copies the packets, each cue going in shortly before its time has come."""
        began_s = zero_s(source)
        waiting = sorted(
            (
                (cue.start_ms, number, cue)
                for number, track in enumerate(self._tracks)
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
        for packet in self._packets(source):
            self._watch.check()
            copy = self._streams.get(packet.stream.index)
            if copy is None or packet.size == 0:  # the last of each stream is empty
                continue
            at = packet.dts if packet.dts is not None else packet.pts
            if at is not None:
                put(until_s=at * packet.time_base - Fraction(began_s) + _AHEAD_S)
            packet.stream = copy
            target.mux(packet)
        put(until_s=None)

    def _packets(self, source: InputContainer) -> "Iterator[Packet[Stream]]":
        try:
            yield from source.demux()
        except (av.error.FFmpegError, OSError) as error:
            raise CorruptMediaError(
                f"{self._source.label} is damaged ({error.strerror}), so it cannot be copied; leave"
                " out --mux"
            ) from error

    def _packet(self, cue: Cue, stream: SubtitleStream, began_s: float) -> "Packet[Stream]":
        text = "\n".join(line for line in cue.text.splitlines() if line.strip()).encode()
        if self._wrapper.codec == "mov_text":
            text = text[:_MOV_TEXT_BYTES].decode(errors="ignore").encode()
            text = struct.pack(">H", len(text)) + text
        packet = Packet(text)
        packet.stream = stream
        packet.time_base = _MILLISECONDS
        packet.pts = packet.dts = cue.start_ms + round(began_s * 1000)
        packet.duration = cue.end_ms - cue.start_ms
        packet.is_keyframe = True
        return packet


def _is_cover(stream: Stream) -> bool:
    return bool(stream.disposition & Disposition.attached_pic)


def _kept(metadata: Mapping[str, str]) -> dict[str, str]:
    """What of the metadata is the person's, not the muxer's."""
    kept = {
        key: value
        for key, value in metadata.items()
        if key.upper() not in _MADE_BY_THE_MUXER
        and not key.upper().startswith(("BPS", "NUMBER_OF_", "_STATISTICS"))
    }
    if "name" in kept:  # what MP4's demuxer calls that which its muxer knows as the title
        kept.setdefault("title", kept["name"])
    return kept


def _label(language: str, muxer: str) -> str:
    """The language as the kind of file wants it; und where it has no place for it."""
    if muxer not in {"matroska", "mov"}:
        return iso_639_2(language)
    label = iso_639_2(language, bibliographic=True)
    return _QUICKTIME.get(label, label) if muxer == "mov" else label


def iso_639_2(language: str, *, bibliographic: bool = False) -> str:
    """The three letters of a BCP-47 tag's language: hin, deu (bibliographic: ger), else und."""
    try:
        return langcodes.get(language).to_alpha3(variant="B" if bibliographic else "T")
    except (LookupError, ValueError):
        return "und"


def _is_of_the_disk(error: av.error.FFmpegError) -> bool:
    """Whether the system, not FFmpeg, has refused; EINVAL is what muxers say of packets."""
    return error.errno in errno.errorcode and error.errno != errno.EINVAL
