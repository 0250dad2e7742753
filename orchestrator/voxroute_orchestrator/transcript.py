"""The transcript of a recording: what every part of the orchestrator works on, and its JSON.

Times are seconds on the media's own timeline. The JSON is this model as it stands; `schema` names
its version, and a change that breaks a reader gets a new one.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

SCHEMA = "voxroute.transcript/1"

TranslationStatus = Literal["OK", "PASSTHROUGH", "TRUNCATED", "SUSPECT", "FAILED"]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Media(_Value):
    """The recording."""

    path: str
    """What people know it by."""
    file: Path | None = Field(default=None, exclude=True)
    """Where it is, if not there."""
    links: bool = Field(default=True, exclude=True)
    """Whether links on the way there are followed."""
    title: str
    """The file's name without its ending, as people read it."""
    duration_s: float | None
    """Length of the media on its timeline; None where the container does not tell."""
    audio_start_s: float
    """When the audio begins."""
    format: str
    audio_codec: str
    audio_stream: int
    """Which of the file's audio streams, counted from 0."""
    audio_language: str | None = None
    """The language that the container claims, BCP-47."""
    audio_track: str = ""
    """The stream in words: which of how many, its language, channels and kind."""
    audio_channels: int = Field(default=1, exclude=True)
    """How many it has, as far as that is known."""
    audio_channel: int | None = None
    """Which of its channels was asked for, counted from 0; None for what holds the voice."""

    @property
    def other_sound(self) -> list[str]:
        """What else of the file may have the voice, and which option takes it."""
        tracks = self.audio_track.partition(",")[0].partition(" of ")[2]
        found: list[str] = []
        if tracks not in {"", "1"}:
            found.append(f"another --audio-stream of its {tracks} (`voxroute tracks` lists them)")
        if self.audio_channels > 1:
            found.append(f"each --channel of its {self.audio_channels} alone")
        return found

    @property
    def stem(self) -> str:
        """The file's name without its ending as it is, which the names of results begin with."""
        return self.file.stem if self.file is not None else self.title


class Model(_Value):
    """A model that answered."""

    engine: str
    id: str
    revision: str


class Device(_Value):
    """The hardware that ran a model."""

    kind: str
    name: str
    compute_type: str


class IgnoredOption(_Value):
    """An option that the engine could not honour."""

    field: str
    reason: str

    @property
    def was_asked_for(self) -> bool:
        """Whether a person may have asked for it, and not the command of its own accord."""
        if self.field == "decoding.hotwords":  # the glossary's
            return True
        return not self.field.startswith(("item.", "decoding.", "task"))


class Note(_Value):
    """A warning: who gave it, a stable code, and a sentence."""

    source: str
    code: str
    message: str


class LanguageProbability(_Value):
    """A language and how likely it is."""

    language: str
    probability: float


@dataclass(frozen=True, slots=True)
class Word:
    """A word with its time. A film has 20,000: as models they would take twice as long to read."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    text: str
    start_s: float
    end_s: float
    confidence: float | None = None


class Segment(_Value):
    """A stretch of speech and its text."""

    id: int
    start_s: float
    end_s: float
    text: str
    language: str
    words: tuple[Word, ...] = ()
    avg_log_prob: float | None = None
    no_speech_prob: float | None = None
    compression_ratio: float | None = None
    temperature: float | None = None
    flags: tuple[str, ...] = ()
    speaker: str = ""
    """Who says it, where that was asked for: "SPEAKER_00", ..."""


class GlossaryUse(_Value):
    """A glossary term that stands in a segment: as in the glossary, and whether it was applied."""

    term: str
    applied: bool


class TranslatedSegment(_Value):
    """The translation of one segment; `text` is empty where it failed."""

    segment_id: int
    text: str
    status: TranslationStatus
    detail: str = ""
    model: Model | None = None
    glossary: tuple[GlossaryUse, ...] = ()


class Untranscribed(_Value):
    """A stretch in which a voice sounds and no segment stands, and why."""

    start_s: float
    end_s: float
    reason: str = ""
    """NO_TEXT, or DOUBTFUL where a text was in doubt and left out; "" where it is not told."""


class _Stats(_Value):
    def plus(self, other: Self) -> Self:
        """The sum."""
        return type(self)(
            **{name: value + getattr(other, name) for name, value in self.model_dump().items()}
        )


class AsrStats(_Stats):
    """What recognition cost, seconds; summed over the calls of a job that had to reconnect."""

    audio_s: float = 0.0
    speech_s: float = 0.0
    queue_s: float = 0.0
    inference_s: float = 0.0
    windows: int = 0
    calls: int = 0


class TranslationStats(_Stats):
    """What translation cost, seconds."""

    items: int = 0
    sentences: int = 0
    queue_s: float = 0.0
    inference_s: float = 0.0


class _Run(BaseModel):
    """The calls of a run, and the hardware of the services that answered them."""

    request_ids: list[str] = Field(default_factory=list[str])
    devices: list[Device] = Field(default_factory=list[Device])

    def add_device(self, device: Device) -> None:
        """Notes the hardware of a service."""
        if device not in self.devices:
            self.devices.append(device)


class RecognitionRun(_Run):
    """Who recognised, and what it cost; it differs from run to run."""

    endpoints: list[str] = Field(default_factory=list[str])
    stats: AsrStats = AsrStats()
    repeated_windows: int = 0
    """Windows that were transcribed although they were finished, by a service that helped."""


class TranslationRun(_Run):
    """As RecognitionRun, for one target language."""

    stats: TranslationStats = TranslationStats()


class Recognition(BaseModel):
    """How the text was recognised: model and options in effect."""

    model_config = ConfigDict(extra="forbid")

    complete: bool = False
    """Whether the recording was recognised to its end."""
    model: Model | None = None
    options: dict[str, Any] = Field(default_factory=dict[str, Any])
    """The config in effect, as the service filled it in."""
    ignored_options: list[IgnoredOption] = Field(default_factory=list[IgnoredOption])
    run: RecognitionRun = Field(default_factory=RecognitionRun, exclude=True)


class Translation(BaseModel):
    """One language's translations, in the order of the segments."""

    model_config = ConfigDict(extra="forbid")

    model: Model | None = None
    options: dict[str, Any] = Field(default_factory=dict[str, Any])
    ignored_options: list[IgnoredOption] = Field(default_factory=list[IgnoredOption])
    items: list[TranslatedSegment] = Field(default_factory=list[TranslatedSegment])
    run: TranslationRun = Field(default_factory=TranslationRun, exclude=True)
    error: str | None = None
    """Why it is not complete."""

    def statuses(self) -> Counter[str]:
        """How many items have each status."""
        return Counter(item.status for item in self.items)


class Transcript(BaseModel):
    """Everything that a job found out."""

    model_config = ConfigDict(extra="forbid", validate_by_alias=True, validate_by_name=True)

    schema_: Literal["voxroute.transcript/1"] = Field(default=SCHEMA, alias="schema")
    voxroute_version: str
    complete: bool = False
    error: str | None = None
    """Why the recognition is not complete."""
    media: Media
    language: str | None = None
    """The language that is spoken, BCP-47; None where it was not found out."""
    language_detected: bool = False
    language_probabilities: list[LanguageProbability] = Field(
        default_factory=list[LanguageProbability]
    )
    recognition: Recognition = Field(default_factory=Recognition)
    segments: list[Segment] = Field(default_factory=list[Segment])
    untranscribed: list[Untranscribed] = Field(default_factory=list[Untranscribed])
    """Speech that is in no segment, in the order of the recording."""
    translations: dict[str, Translation] = Field(default_factory=dict[str, Translation])
    """By target language."""
    warnings: list[Note] = Field(default_factory=list[Note])
    wall_s: float = Field(default=0.0, exclude=True)
    """How long the job took."""
    notes: list[Note] = Field(default_factory=list[Note], exclude=True)
    """What happened on the way and left no trace in the text: connections that were lost."""

    def to_json(self) -> str:
        """The transcript as JSON, with a line feed at the end.

        It holds what follows from the recording, the models and the options, and so is the same
        for every run; `report` has the rest.
        """
        return self.model_dump_json(by_alias=True, indent=2) + "\n"

    def report(self) -> "RunReport":
        """What the run that made the transcript was like."""
        return RunReport(
            wall_s=self.wall_s,
            recognition=self.recognition.run,
            translations={target: one.run for target, one in self.translations.items()},
            notes=self.notes,
        )


class RunReport(BaseModel):
    """Who did a job, what it cost, seconds, and what happened on the way."""

    schema_: Literal["voxroute.run/1"] = Field(
        default="voxroute.run/1", alias="schema", serialization_alias="schema"
    )
    wall_s: float
    recognition: RecognitionRun
    translations: dict[str, TranslationRun]
    notes: list[Note]

    def to_json(self) -> str:
        """The report as JSON, with a line feed at the end."""
        return self.model_dump_json(by_alias=True, indent=2) + "\n"


_LONGEST_TAG = 35  # characters of the longest that is registered (RFC 5646, 4.4.1)

# The languages that ISO 639-1 has two letters for, as far as langcodes (3.5) leaves these as they
# are: each is a language of its own. Most commands name no others, and langcodes takes a tenth of a
# second to import.
_TWO_LETTERS = frozenset(
    (  # noqa: SIM905 - one line each would be two hundred
        "aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu "
        "cv cy da de dv dz ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi "
        "ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks "
        "ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl "
        "nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl "
        "sm sn so sq sr ss st su sv sw ta te tg th ti tk tn to tr ts tt tw ty ug uk ur uz ve vi "
        "vo wa wo xh yi yo za zh zu"
    ).split()
)


def standard_tag(language: str) -> str:
    """The canonical BCP-47 tag of a language. Raises ValueError for what is none.

    "HI" and "hin" are "hi", "pt_br" is "pt-BR".
    """
    if language in _TWO_LETTERS:
        return language
    import langcodes  # noqa: PLC0415 - see above

    try:
        tag = langcodes.standardize_tag(language.strip())
        known = langcodes.get(tag).is_valid() and tag != "und" and len(tag) <= _LONGEST_TAG
    except ValueError:
        known = False
        tag = ""
    if not known:
        raise ValueError(
            f'"{language}" is no language that is known; use a BCP-47 tag, such as hi, en, pt-BR'
        )
    return tag


def same_language(one: str, other: str) -> bool:
    """Whether nothing would have to be translated between the two tags.

    Regions do not matter ("en-GB" and "en"), scripts do ("sr-Latn" and "sr-Cyrl"); Bokmål ("nb") is
    Norwegian ("no").
    """
    if one == other:
        return True
    if one in _TWO_LETTERS and other in _TWO_LETTERS:
        return {one, other} == {"nb", "no"}
    import langcodes  # noqa: PLC0415 - see above

    first, second = langcodes.get(one).maximize(), langcodes.get(other).maximize()
    return (first.language, first.script) == (second.language, second.script)


def is_among(language: str, languages: Collection[str]) -> bool:
    """Whether one of them is meant by it: as models are asked, so that "zh-TW" is "zh" too."""
    from voxroute_serving.languages import match_language  # noqa: PLC0415 - few commands ask

    if match_language(language, tuple(languages)) is not None:
        return True
    return any(same_language(language, one) for one in languages)


@dataclass(frozen=True, slots=True)
class Turn:
    """A stretch in which one person speaks; seconds on the media's timeline."""

    start_s: float
    end_s: float
    speaker: str
    """ "SPEAKER_00", ..., in the order of their first words."""
