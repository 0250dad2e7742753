"""What the streams of a recording say of themselves, and what copies of them have lost."""

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import av
import av.error
import langcodes
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from voxroute_orchestrator.names import shown

if TYPE_CHECKING:
    from av.container import InputContainer

_QUICKTIME = {"fre": "fra", "swe": "sve"}  # FFmpeg's names of QuickTime's codes, where they differ
_MADE_BY_THE_MUXER = {
    "DURATION", "ENCODER", "MAJOR_BRAND", "MINOR_VERSION", "COMPATIBLE_BRANDS", "CREATION_TIME",
}  # fmt: skip
LONGEST_TITLE = 60  # characters of it in a sentence


def lost_by(stream: Stream, copy: Stream) -> list[str]:
    """What a copied stream does not have any more, in words."""
    lost: list[str] = []
    wanted = marks(stream)
    lost += [
        f"mark {flag.name.replace('_', ' ')!r}"
        for flag in Disposition
        if flag.name and flag & wanted and not flag & copy.disposition
    ]
    if tag_of(stream) != tag_of(copy) and tag_of(stream) and tag_of(copy):
        lost.append(f"sample entry {tag_of(stream)!r}, but {tag_of(copy)!r}")
    language = stream.metadata.get("language", "")
    said = copy.metadata.get("language", "")
    if language not in {"", "und"} and iso_639_2(language) != iso_639_2(said):
        lost.append(f"language {shown(language)!r}")
    title = kept_metadata(stream.metadata).get("title", "")
    if title and title not in copy.metadata.values():
        lost.append(f"title {shown(title[:LONGEST_TITLE])!r}")
    turned, is_turned = _rotation(stream), _rotation(copy)
    if turned is not None and is_turned is not None and (turned - is_turned) % 360:
        lost.append(f"rotation by {turned} degrees")
    return lost


def tag_of(stream: Stream) -> str:
    """The name of its sample entry in a file of QuickTime's family; "" where it has none."""
    container, context = stream.container, cast("Any", stream.codec_context)
    if context is None or "mp4" not in container.format.name.split(",") or is_cover(stream):
        return ""
    return str(context.codec_tag).strip("\0")


def marks(stream: Stream) -> Disposition:
    """What the copy of a stream is to be marked as."""
    if stream.type == "subtitle":
        return Disposition(stream.disposition & ~Disposition.default)
    return stream.disposition


def _rotation(stream: Stream) -> int | None:
    """How the first picture is turned, degrees; None where no picture can be had."""
    if not isinstance(stream, VideoStream) or is_cover(stream):
        return None
    container = cast("InputContainer", stream.container)
    with contextlib.suppress(av.error.FFmpegError, OSError, ValueError, IndexError):
        for number, frame in enumerate(container.decode(stream)):
            return frame.rotation if number == 0 else None
    return None


def described(stream: Stream) -> str:
    """What a stream is, for people: "subtitle stream 3 (dvb_teletext, deu)"."""
    context = cast("Any", stream.codec_context)
    about = [
        context.name if context is not None else "",
        stream.metadata.get("language", "").replace("und", ""),
        stream.metadata.get("title", "") or stream.metadata.get("filename", ""),
    ]
    said = ", ".join(shown(one[:LONGEST_TITLE]) for one in about if one)
    kind = "cover picture" if is_cover(stream) else f"{stream.type} stream"
    return f"{kind} {stream.index}{f' ({said})' if said else ''}"


def is_cover(stream: Stream) -> bool:
    """Whether it is a picture that stands for the recording."""
    return bool(stream.disposition & Disposition.attached_pic)


def kept_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
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


def language_label(language: str, muxer: str) -> str:
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
