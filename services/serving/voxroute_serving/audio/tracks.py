"""The audio tracks of a file: which one is meant, what it is called, and how long it says it is."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from av.audio.codeccontext import AudioCodecContext
    from av.audio.stream import AudioStream
    from av.container import InputContainer

    from voxroute_serving.audio.structure import Structure

# Containers that tell the length of each stream; that of others is an estimate by their bytes, or
# the length of the longest stream.
_TELL_LENGTHS = {"mov", "mp4", "matroska", "webm", "wav", "w64", "aiff", "caf", "flac"}
ENCRYPTED = (
    "has encrypted audio, which only the programs of its seller can play; take a copy without copy"
    " protection"
)
_ENCRYPTED_TAGS = frozenset({"enca", "drms", "drmi", "aavd", "encv"})

# What a track is that does not hold what the film says, by its flags and by words of its title.
_COMMENTARY = re.compile(
    r"comment(?:ary|aries)|commentaire|kommentar|comentario|comentário|commento|komentarz"
    r"|komentář|kommentaar|kommentti|комментари|коментар|解説|评论|評論|评论音轨|코멘터리|टिप्पणी",
    re.IGNORECASE,
)
_DESCRIPTION = re.compile(
    r"audio[\s_-]*descri|descriptive|described[\s_-]+(?:audio|video)|video[\s_-]*descri"
    r"|visually[\s_-]*impaired|\bDVS\b|\bAD\b|audiodescri|audiodeskri|hörfilm|descripci[oó]n"
    r"|audiodescrição|audiodescrizione|audiodescription|audiobeschrijving|syntolkning"
    r"|kuvailutulkkaus|тифлокомментари|音声解説|解説放送|口述影像|화면해설",
    re.IGNORECASE,
)
_NO_VOICE = re.compile(
    r"\bM\s*&\s*E\b|music\s*(?:&|and|\+)\s*effects|(?:music|effects|score)\s+only"
    r"|isolated\s+score|instrumental|karaoke",
    re.IGNORECASE,
)
_COMMENT_FLAG, _DEFAULT_FLAG = "comment", "default"
_DESCRIPTION_FLAGS = ("visual_impaired", "descriptions")
_OTHER_FLAGS = ("karaoke", "clean_effects", "non_diegetic")


@dataclass(frozen=True, slots=True)
class Track:
    """An audio track of a file."""

    index: int
    """Its place among the audio tracks, counted from 0."""
    of: int
    """How many there are."""
    language: str
    """As the container labels it, mostly three letters; empty where it does not."""
    title: str
    layout: str
    """As `stereo`, `5.1`, `10 channels`; empty where it is not known yet."""
    codec: str
    default: bool
    commentary: bool
    description: bool
    """Whether it describes the pictures, for those who do not see them."""
    extra: bool
    """Whether it is another kind that nobody speaks on: effects alone, say."""

    @property
    def is_main(self) -> bool:
        """Whether it can be what the film itself says."""
        return not (self.commentary or self.description or self.extra)

    @property
    def kinds(self) -> list[str]:
        """What it is, in words."""
        kinds = ["default"] * self.default
        kinds += ["commentary"] * self.commentary
        kinds += ["audio description"] * self.description
        return kinds + ["no speech"] * self.extra

    def __str__(self) -> str:
        parts = [f"track {self.index + 1} of {self.of}", self.language, self.layout, *self.kinds]
        parts += [repr(self.title)] * bool(self.title)
        return ", ".join(filter(None, parts))


def tracks(container: "InputContainer") -> list[Track]:
    """The file's audio tracks, in its order."""
    streams = container.streams.audio
    return [_track(stream, index, len(streams)) for index, stream in enumerate(streams)]


def _track(stream: "AudioStream", index: int, of: int) -> Track:
    import av.stream  # noqa: PLC0415 - FFmpeg's libraries load only where media is opened

    flags = {flag.name for flag in av.stream.Disposition if flag & stream.disposition}
    title = stream.metadata.get("title") or stream.metadata.get("handler_name") or ""
    context = codec_context(stream)
    language = stream.metadata.get("language", "")
    return Track(
        index=index,
        of=of,
        language="" if language == "und" else _shown(language),
        title=_shown(title),
        layout="" if context is None else context.layout.name,
        codec="" if context is None else context.name,
        default=_DEFAULT_FLAG in flags,
        commentary=_COMMENT_FLAG in flags or bool(_COMMENTARY.search(title)),
        description=not flags.isdisjoint(_DESCRIPTION_FLAGS) or bool(_DESCRIPTION.search(title)),
        extra=bool(flags.intersection(_OTHER_FLAGS) or _NO_VOICE.search(title)),
    )


_LONGEST_TITLE = 60
_NO_TITLES = {"soundhandler", "core media audio", "apple sound media handler", "gpac"}


def _shown(title: str) -> str:
    """A title for a line of text."""
    plain = "".join(c if c.isprintable() else " " for c in title).strip()
    return "" if plain.lower() in _NO_TITLES else plain[:_LONGEST_TITLE]


def choose(found: Sequence[Track], is_spoken: Callable[[str], bool] | None = None) -> Track:
    """The track that holds what the recording says.

    By the language that is spoken, where that is known; then by the file's default; the first of
    those left. A commentary or a description of the pictures only where there is nothing else.
    """

    def rank(track: Track) -> tuple[bool, bool, bool, int]:
        spoken = bool(is_spoken and track.language and is_spoken(track.language))
        return not track.is_main, not spoken, not track.default, track.index

    return min(found, key=rank)


def is_language(label: str, tag: str) -> bool:
    """Whether a file's label, mostly of three letters, names the language of a tag.

    As models are asked, and whatever the regions are: "pt-BR" is "pt".
    """
    import langcodes  # noqa: PLC0415 - a tenth of a second, which files without labels save

    from voxroute_serving.languages import match_language  # noqa: PLC0415 - likewise

    try:
        labelled = langcodes.standardize_tag(label)
    except ValueError:
        return False
    if match_language(tag, [labelled]) is not None:
        return True
    one, other = (langcodes.get(each).maximize() for each in (labelled, tag))
    return (one.language, one.script) == (other.language, other.script)


def codec_context(stream: "AudioStream") -> "AudioCodecContext | None":
    """The stream's decoder; None where this build of FFmpeg has none for its codec."""
    return cast("AudioCodecContext | None", stream.codec_context)


def encryption(stream: "AudioStream") -> str | None:
    """That a stream is encrypted, as a sentence without its subject; None where it is not."""
    context = codec_context(stream)
    tag = "" if context is None else context.codec_tag
    if tag in _ENCRYPTED_TAGS or "enc_key_id" in {key.lower() for key in stream.metadata}:
        return ENCRYPTED
    return None


def stream_length_s(stream: "AudioStream", structure: "Structure | None") -> float | None:
    """The length that FFmpeg tells of a stream, seconds; None where it tells none.

    Of an mp4 in fragments, whose first ones may be missing, FFmpeg tells the end.
    """
    if not stream.duration or not stream.time_base:
        return None
    ends = structure is not None and b"moof" in structure.boxes
    before = (stream.start_time or 0) if ends else 0
    return float((stream.duration - before) * stream.time_base)


def declared_length_s(
    container: "InputContainer", stream: "AudioStream", structure: "Structure | None" = None
) -> float | None:
    """The length of the audio that the file's headers tell, seconds; None for an estimate.

    That of an mp3 is told where `structure` has found it, and that of FLV only where bytes are
    missing as well: a recorder may have it of another file.
    """
    names = set(container.format.name.split(","))
    if "flv" in names and structure is not None and structure.is_shorter_than_told:
        duration = container.duration
        return None if duration is None else duration / 1_000_000
    told = "mp3" in names and structure is not None and structure.tells_length
    if not told and not names & _TELL_LENGTHS:
        return None
    if (length_s := stream_length_s(stream, structure)) is not None:
        return length_s
    tag = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if tag is None:
        return None
    start_s = float((stream.start_time or 0) * (stream.time_base or 0))  # the tag is an end
    return int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3]) - start_s
