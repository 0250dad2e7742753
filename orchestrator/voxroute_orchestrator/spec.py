"""What a person asks for of a recording: once, for all the ways to ask.

The flags of the commands, a job's file and the job service's messages derive from the fields of
`JobSpec`. A new option is a field here, one of JobConfig in jobs.proto of the same name if the job
service is to take it, and the place that uses it.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from google.protobuf.duration_pb2 import Duration

from voxroute.jobs.v1 import jobs_pb2
from voxroute_orchestrator import glossary as glossaries
from voxroute_orchestrator.client.messages import duration, seconds
from voxroute_orchestrator.engines import OUR_NAMES, backend_name
from voxroute_orchestrator.errors import UsageError
from voxroute_orchestrator.glossary import GlossaryTerm
from voxroute_orchestrator.names import shown
from voxroute_orchestrator.reporter import clock
from voxroute_orchestrator.subtitles.formats import DEFAULT_FORMATS, FORMATS, formats_of
from voxroute_orchestrator.transcript import same_language, standard_tag

MAX_SPEAKERS = 100  # of the contract
DeviceName = Literal["auto", "mps", "cuda", "cpu"]
PRIORITIES = ("normal", "high", "low")
"""By their number in the contract."""

_LONGEST_TIME = 20  # characters of it in a message
_MAX_TIME_S = 366 * 24 * 3600.0
_CLOCK = re.compile(r"(\d+:){0,2}\d+(\.\d+)?")


@dataclass(frozen=True, slots=True)
class Flag:
    """A field as a flag of the commands."""

    names: tuple[str, ...]
    help: str
    kind: Any
    """The type of what is typed."""
    unsaid: Any
    """What stands for nothing typed."""
    read: Callable[[Any], Any]
    """Makes the field's value of what is typed. Raises UsageError, ValueError."""
    least: int | None


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a field's metadata say: its flag, and its name in JobConfig where that is another."""

    names: tuple[str, ...]
    help: str
    message: str = ""
    kind: Any = None
    """As that of Flag where it is another than the field's; so the next ones."""
    unsaid: Any = None
    read: Callable[[Any], Any] | None = None
    least: int | None = None


def asked(default: Any, *names: str, help: str, **more: Any) -> Any:  # noqa: A002 - the field's
    """A field that is asked for by a flag of these names; `more` is that of _Asked."""
    return dataclasses.field(default=default, metadata={"asked": _Asked(names, help, **more)})


class AskedError(UsageError):
    """Something cannot be meant.

    `field` is what, by its name in JobConfig, and `sentence` why; the error itself is about flags.
    """

    def __init__(self, name: str, sentence: str) -> None:
        self.field = _message_name(name)
        self.sentence = sentence.format_map({name: f"`{_message_name(name)}`" for name in FLAGS})
        super().__init__(sentence.format_map({n: flag.names[-1] for n, flag in FLAGS.items()}))


def language_of(text: str) -> str:
    """The standard tag of a language. Raises UsageError."""
    try:
        return standard_tag(text)
    except ValueError as error:
        raise UsageError(f"{error}") from error


def languages_of(texts: str | list[str] | None) -> tuple[str, ...]:
    """The tags of lists with commas, each once, in their order. Raises UsageError."""
    listed = [texts] if isinstance(texts, str) else texts or []
    parts = [part.strip() for text in listed for part in text.split(",") if part.strip()]
    if listed and not parts:
        raise UsageError("name at least one language with -t, such as -t en")
    return tuple(dict.fromkeys(language_of(part) for part in parts))


def time_of(text: str, flag: str) -> float | None:
    """Seconds of "90", "1:30" or "00:01:30.5"; None for "". Raises UsageError."""
    if not text.strip():
        return None
    said = shown(text.strip()[:_LONGEST_TIME])
    if not _CLOCK.fullmatch(text.strip()):
        raise UsageError(f"{flag} {said}: write seconds, M:SS or H:MM:SS, as in 1:30")
    first, *others = [float(part) for part in text.strip().split(":")]
    if any(part >= 60 for part in others):  # noqa: PLR2004 - seconds and minutes
        raise UsageError(
            f"{flag} {said}: minutes and seconds behind a colon go up to 59; write seconds, M:SS or"
            " H:MM:SS, as in 1:30"
        )
    time_s = first
    for part in others:
        time_s = time_s * 60 + part
    if time_s > _MAX_TIME_S:
        raise UsageError(f"{flag} {said}: it is more than a year; write seconds, M:SS or H:MM:SS")
    return time_s


def _terms_of(path: Path | None) -> tuple[GlossaryTerm, ...]:
    return glossaries.read(path) if path else ()


def _start_of(text: str) -> float:
    return time_of(text, "--start-time") or 0.0


def _end_of(text: str) -> float | None:
    return time_of(text, "--end-time")


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """What a person asks for. Raises AskedError for what cannot be meant."""

    source_languages: tuple[str, ...] = asked(
        (),
        "-s",
        "--source",
        help="Language that is spoken (hi, en, ...); else detected. Several, hi,en, where it"
        " changes from sentence to sentence.",
        kind=str | None,
        read=languages_of,
    )
    """BCP-47; none to detect it, several where it changes within the recording."""
    target_languages: tuple[str, ...] = asked(
        (),
        "-t",
        "--target",
        help="Languages wanted, with commas: en,ta.",
        kind=list[str] | None,
        read=languages_of,
    )
    asr_model: str = asked(
        "", "--model", help="Speech model: a name, a hub id, or a local directory."
    )
    translate_model: str = asked(
        "", "--translate-model", help="Translation model: a hub id or a directory."
    )
    glossary: tuple[GlossaryTerm, ...] = asked(
        (),
        "--glossary",
        help="Terms with their translation: a CSV file, source,target.",
        kind=Path | None,
        read=_terms_of,
    )
    """Terms for the recogniser to prefer, and for the translation to keep to."""
    prompt: str = asked(
        "",
        "--prompt",
        help="Text before the recording, as the recogniser sees it: names, spellings, a style.",
    )
    words: bool = asked(
        False, "--words", help="Give each word its time.", message="word_timestamps"
    )
    align: bool = asked(
        False,
        "--align",
        help="Have a service time the words of the finished transcript, where the one that"
        " heard them cannot.",
    )
    speakers: bool = asked(False, "--speakers", help="Tell apart who speaks, where a service can.")
    min_speakers: int = asked(
        0, "--min-speakers", help="Speakers there are at least; 0: not known.", least=0
    )
    max_speakers: int = asked(
        0, "--max-speakers", help="Speakers there are at most; 0: not known.", least=0
    )
    diarization_model: str = asked(
        "",
        "--diarization-model",
        help="Model for --speakers of a service that is started here: a hub id or a directory.",
    )
    vad_disabled: bool = asked(
        False,
        "--no-vad",
        help="Transcribe everything, also what does not sound like speech; slower.",
    )
    audio_stream: int | None = asked(
        None,
        "--audio-stream",
        help="Audio stream, counted from 0; else by its language.",
        least=0,
    )
    audio_channel: int | None = asked(
        None,
        "--channel",
        help="Channel of the audio, counted from 0; else what holds the voice.",
        least=0,
    )
    hls_folder: bool = asked(
        False,
        "--hls-folder",
        help="Let playlists (m3u8) open the files in their folder and below.",
    )
    start_s: float = asked(
        0.0,
        "--start-time",
        help="Begin there: seconds, M:SS or H:MM:SS.",
        message="start",
        kind=str,
        unsaid="",
        read=_start_of,
    )
    """Where to begin on the media's timeline."""
    end_s: float | None = asked(
        None,
        "--end-time",
        help="End there.",
        message="end",
        kind=str,
        unsaid="",
        read=_end_of,
    )
    """Where to end on it; None for the end of the media."""
    strict: bool = asked(False, "--strict", help="Fail where an option cannot be honoured.")
    formats: tuple[str, ...] = asked(
        DEFAULT_FORMATS,
        "--format",
        help="Kinds of subtitles, with commas: srt,vtt,ass,ttml,json.",
        kind=str,
        unsaid=",".join(DEFAULT_FORMATS),
        read=formats_of,
    )
    speaker_prefix: bool = asked(
        False, "--speaker-prefix", help="Name the speakers in SRT, as text."
    )
    drop_flagged: bool = asked(
        False,
        "--drop-flagged",
        help="Leave doubtful text out of the subtitles; the transcript keeps it.",
    )
    mux: bool = asked(
        False, "--mux", help="Write a copy of the recording with the subtitles in it."
    )
    priority: Literal["normal", "high", "low"] = asked(
        "normal", "--priority", help="Which of your own jobs the service begins first."
    )
    backend: str = asked(
        "auto",
        "--backend",
        help=f"Engine that recognises speech: {', '.join(OUR_NAMES)}, or another"
        " that is installed; else by the host.",
        kind=str,
        unsaid="auto",
        read=backend_name,
    )
    device: Literal["auto", "mps", "cuda", "cpu"] = asked(
        "auto",
        "--device",
        help="Hardware that recognises speech; else the best.",
    )
    translate_device: DeviceName = "auto"
    """The same for translations."""
    compute_type: str = ""
    """For a speech service that is started here; "" for its own choice."""
    batch_size: int = 0
    """As compute_type; 0 for its own choice."""

    def __post_init__(self) -> None:
        if self.max_speakers and self.min_speakers > self.max_speakers:
            raise AskedError(
                "min_speakers",
                f"{{min_speakers}} {self.min_speakers} is more than {{max_speakers}}"
                f" {self.max_speakers}",
            )
        if self.end_s is not None and self.end_s <= self.start_s:
            raise AskedError(
                "end_s",
                f"{{end_s}} ({clock(self.end_s)}) must be later than {{start_s}}"
                f" ({clock(self.start_s)})",
            )

    @property
    def source(self) -> str | None:
        """The one language that is spoken; None to detect it, and where it changes."""
        return self.source_languages[0] if len(self.source_languages) == 1 else None

    @property
    def allowed_languages(self) -> tuple[str, ...]:
        """Two or more where the language changes within the recording."""
        return self.source_languages if len(self.source_languages) > 1 else ()

    @property
    def to_translate(self) -> list[str]:
        """The languages that are wanted and, as far as is known before, not spoken."""
        source = self.source
        return [t for t in self.target_languages if source is None or not same_language(source, t)]

    @property
    def times_words(self) -> bool:
        """Whether recognition is to time the words: for speakers too, who change amid segments."""
        return not self.align and (self.words or (self.tells_speakers and not self.strict))

    @property
    def tells_speakers(self) -> bool:
        """Whether to tell speakers apart; a number of them asks for it too."""
        return self.speakers or self.min_speakers > 0 or self.max_speakers > 0


_FIELDS = {field.name: field for field in dataclasses.fields(JobSpec) if "asked" in field.metadata}


def _flag(field: "dataclasses.Field[Any]") -> Flag:
    said: _Asked = field.metadata["asked"]
    other = said.kind is not None
    return Flag(
        said.names,
        said.help,
        kind=said.kind if other else field.type,
        unsaid=said.unsaid if other else field.default,
        read=said.read or (lambda value: value),
        least=said.least,
    )


FLAGS = {name: _flag(field) for name, field in _FIELDS.items()}
"""By the name of the field, in the order of the fields."""


def of_flags(typed: Mapping[str, Any]) -> JobSpec:
    """The spec of what was typed for the fields. Raises UsageError."""
    try:
        return JobSpec(**{name: FLAGS[name].read(value) for name, value in typed.items()})
    except ValueError as error:
        raise UsageError(str(error)) from error


# --- messages ------------------------------------------------------------------------------------


def _message_name(name: str) -> str:
    said: _Asked = _FIELDS[name].metadata["asked"]
    return said.message or name


_SENT = {
    message: name
    for name in _FIELDS
    if (message := _message_name(name)) in jobs_pb2.JobConfig.DESCRIPTOR.fields_by_name
}
SENT = frozenset(_SENT.values())
"""The fields that the job service takes, and a job's file holds; the others are of one command."""


def to_message(spec: JobSpec) -> jobs_pb2.JobConfig:
    """What the job service is asked for, but for its media."""
    config = jobs_pb2.JobConfig()
    for message, name in _SENT.items():
        value = getattr(spec, name)
        has_presence = config.DESCRIPTOR.fields_by_name[message].has_presence
        if value is None or not (value or has_presence):
            continue
        if name == "glossary":
            config.glossary.extend(glossaries.to_messages(value))
        elif name == "priority":
            setattr(config, message, PRIORITIES.index(value))
        elif isinstance(value, tuple):
            getattr(config, message).extend(value)
        elif isinstance(value, float):
            getattr(config, message).CopyFrom(duration(value))
        else:
            setattr(config, message, value)
    return config


def of_message(config: jobs_pb2.JobConfig) -> JobSpec:
    """What a client of the job service asks for. Raises AskedError."""
    given: dict[str, Any] = {}
    for message, name in _SENT.items():
        value: Any = getattr(config, message)
        has_presence = config.DESCRIPTOR.fields_by_name[message].has_presence
        if has_presence and not config.HasField(message):  # type: ignore[arg-type]
            continue
        if isinstance(value, Duration):
            given[name] = _time(name, value)
        elif name.endswith("_languages"):
            given[name] = tuple(dict.fromkeys(_tag(name, text) for text in value))
        elif name == "glossary":
            given[name] = _terms(value)
        elif name == "formats":
            given[name] = _formats(value)
        elif name == "priority":
            given[name] = _priority(value)
        else:
            given[name] = value
    for name in ("min_speakers", "max_speakers"):
        if given[name] > MAX_SPEAKERS:
            raise AskedError(name, f"it is more than {MAX_SPEAKERS}")
    return JobSpec(**given)


def _time(name: str, value: Duration) -> float:
    if not (0 <= value.seconds < _MAX_TIME_S and value.nanos >= 0):
        raise AskedError(name, "it is no time from 0 to a year")
    return seconds(value)


def _tag(name: str, text: str) -> str:
    try:
        return standard_tag(text)
    except ValueError as error:
        raise AskedError(name, _literal(str(error))) from error


def _terms(messages: Any) -> tuple[GlossaryTerm, ...]:
    try:
        return glossaries.of_messages(messages)
    except UsageError as error:
        raise AskedError("glossary", _literal(str(error))) from error


def _formats(kinds: Any) -> tuple[str, ...]:
    for kind in kinds:
        if kind not in FORMATS:
            sentence = f"there is no format {kind[:20]!r}; use {', '.join(FORMATS)}"
            raise AskedError("formats", _literal(sentence))
    return tuple(dict.fromkeys(kinds)) or DEFAULT_FORMATS


def _priority(number: int) -> str:
    if not 0 <= number < len(PRIORITIES):
        raise AskedError("priority", f"there is no priority {number}; use normal, high or low")
    return PRIORITIES[number]


def _literal(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
