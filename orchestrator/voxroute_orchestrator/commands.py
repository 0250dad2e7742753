"""What the commands do: a recording to subtitles, or subtitles to other languages."""

import asyncio
import contextlib
import hashlib
import importlib
import os
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from voxroute_orchestrator.channels import in_job
from voxroute_orchestrator.clients import TranslateRequest, check_pair
from voxroute_orchestrator.connections import (
    Connected,
    Needs,
    ObserveRoute,
    observe_nothing,
    services,
)
from voxroute_orchestrator.cues import Cue, rewrapped, with_speakers
from voxroute_orchestrator.errors import (
    MediaNotFoundError,
    OutputError,
    RefusedError,
    UsageError,
    VoxrouteError,
)
from voxroute_orchestrator.glossary import GlossaryTerm, tally
from voxroute_orchestrator.items import ItemPool, TranslateItem
from voxroute_orchestrator.journal import Journal, discard, journal_path
from voxroute_orchestrator.linebreaks import flat
from voxroute_orchestrator.media import Source, check_length, probe
from voxroute_orchestrator.output import claimed, write_atomic
from voxroute_orchestrator.pipeline import Job, Run
from voxroute_orchestrator.progress import Reporter, clock, waits
from voxroute_orchestrator.read_ahead import EarlyReader
from voxroute_orchestrator.reading import reading
from voxroute_orchestrator.results import (
    DEFAULT_FORM,
    ResultForm,
    are_of_another,
    keep_own_files,
    prepare_results,
    result_names,
    subtitle_name,
    tell_shortened,
    tracks_of,
    transcript_name,
    write_results,
)
from voxroute_orchestrator.settings import Settings
from voxroute_orchestrator.spans import is_cut
from voxroute_orchestrator.streams import Service
from voxroute_orchestrator.subtitles import FORMATS, to_srt
from voxroute_orchestrator.transcript import (
    Device,
    IgnoredOption,
    Media,
    Model,
    Note,
    Transcript,
    TranslatedSegment,
    TranslationStats,
    Untranscribed,
    same_language,
)
from voxroute_orchestrator.turns import Turn, turns_of
from voxroute_serving.logs import get_logger
from voxroute_serving.media import Watch

if TYPE_CHECKING:
    from voxroute_orchestrator.mux import Plan

NO_DIARIZER = "NO_DIARIZER"
_NO_DIARIZER = (
    "no speech service that answers tells speakers apart; start a WhisperX service with"
    " --diarization-model, or name one that runs with --asr-endpoint HOST:PORT"
)

_RECORDING = "recording"  # the fact of the journal
_FINGERPRINT_BYTES = 1 << 16
_STOP_S = 2.0  # for a copy to take away what it has written

T = TypeVar("T")

_MOST_PLACES = 5  # named in a line of the summary

_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """The options of run and transcribe."""

    media: Path
    media_name: str = ""
    """What people know it by, if not by its path."""
    media_links: bool = True
    """Whether links in its path are followed."""
    hls_folder: bool = False
    """Whether a playlist may open what is in its folder."""
    max_audio_s: float | None = None
    """The longest recording that is taken, seconds of what is wanted of it; None for any."""
    source: str | None
    targets: tuple[str, ...] = ()
    folder: Path
    model: str
    translate_model: str = ""
    audio_stream: int | None
    audio_channel: int | None = None
    """Which channel is wanted, counted from 0; None for what holds the voice."""
    words: bool
    align: bool = False
    """Whether words get their times from a service that aligns the finished transcript."""
    speakers: bool = False
    min_speakers: int = 0
    max_speakers: int = 0
    diarization_model: str = ""
    strict: bool
    overwrite: bool
    form: ResultForm = DEFAULT_FORM
    mux: bool = False
    """Whether a copy of the media with the subtitles in it is written too."""
    start_s: float = 0.0
    end_s: float | None = None
    backend: str = "auto"
    device: str = "auto"
    translate_device: str = "auto"
    compute_type: str = ""
    batch_size: int = 0
    only_asr_endpoints: bool = False
    only_translate_endpoints: bool = False
    allowed_languages: tuple[str, ...] = ()
    """Two or more where the language changes within the recording; `source` is None."""
    vad_disabled: bool = False
    glossary: tuple[GlossaryTerm, ...] = ()
    journal: Path | None = None
    """Where what is finished is written down while the job runs; else beside the results."""
    resume: bool = False
    """Whether to go on from the journal of an earlier run, if there is one."""
    patience_s: float = 0.0
    """How long the configured services may be away when the job begins."""
    connected: Connected | None = None
    """Services that several jobs share; None to find or start the job's own."""
    job_id: str = ""
    """Its name in logs and traces, those of the services too; "" for a new one."""

    @property
    def recording(self) -> Source:
        """The media, as it is opened."""
        return Source(self.media, self.media_name, self.hls_folder, self.media_links)

    @property
    def tells_speakers(self) -> bool:
        """Whether to tell speakers apart; a number of them asks for it too."""
        return self.speakers or self.min_speakers > 0 or self.max_speakers > 0


async def transcribe_media(
    options: JobOptions,
    settings: Settings,
    told: Reporter,
    observe_route: ObserveRoute = observe_nothing,
) -> list[str]:
    """Does the job; returns its summary and the paths of its files. Raises VoxrouteError.

    One that is to be resumed and whose files are all there is not done again. `observe_route` is
    told which services were chosen. The rules of cues are those of the settings, whoever has made
    the options.
    """
    options = replace(options, form=replace(options.form, rules=settings.subtitles))
    media, before, planned = await _reading(options, lambda: probed(options))
    if before is not None:
        return before
    if media.duration_s is not None:
        end_s = min(media.duration_s, options.end_s or media.duration_s)
        check_length(end_s - options.start_s, options.max_audio_s, media.path)
    about = _languages_of(options.source, options.targets)
    if media.duration_s is not None:
        about["voxroute.media_s"] = media.duration_s
    with in_job(options.job_id, about), claimed(options.folder, media.stem):
        return await _results(options, media, planned, settings, told, observe_route)


async def _reading(options: JobOptions, call: Callable[[], T]) -> T:
    """What `call` returns, which reads the media. Raises MediaStalledError."""
    return await reading(Watch(options.recording.label), call)


def probed(options: JobOptions) -> "tuple[Media, list[str] | None, Plan | None]":
    """The media, what to say where all is done already, and the plan of a copy that is wanted.

    Blocking. Raises MediaError; UsageError where no copy with subtitles can be made of it.
    """
    media = probe(
        options.recording,
        stream=options.audio_stream,
        language=options.source or next(iter(options.allowed_languages), None),
        channel=options.audio_channel,
    )
    planned = _planned(options)
    return media, _done_before(options, media, planned), planned


def _planned(options: JobOptions) -> "Plan | None":
    """What the copy with subtitles will be; None where none is wanted. Blocking."""
    if not options.mux:
        return None
    from voxroute_orchestrator.mux import plan  # noqa: PLC0415 - few commands do

    return plan(options.recording)


async def _results(  # noqa: PLR0917 - what is known of a job when its work begins
    options: JobOptions,
    media: Media,
    planned: "Plan | None",
    settings: Settings,
    told: Reporter,
    observe_route: ObserveRoute,
) -> list[str]:
    names = _names(options, media, planned)
    prepare_results(
        options.folder,
        names,
        overwrite=options.overwrite,
        mark=None if _of_another(options, media) else transcript_name(media.stem),
    )
    tell_shortened(media.stem, names, told)
    for sentence in planned.left_out if planned else ():
        told.warn(sentence)
    fingerprint = await _reading(options, lambda: _fingerprint(options.recording))
    async with _early(media, options) as reader:
        with _journal(options, media.stem, fingerprint, told) as journal:
            async with _services(options, settings, told, observe_route) as connected:
                transcript, paths = await _transcribe(
                    options, media, journal, connected, told, reader
                )
            if planned is not None:
                paths.append(await _mux(transcript, options, planned, told))
    discard(journal.path)
    return [*_summary(transcript, options.form), *(str(path) for path in paths)]


def _names(options: JobOptions, media: Media, planned: "Plan | None") -> list[str]:
    """The names of the files that are to be there in the end."""
    languages = ([options.source] if options.source else []) + list(options.targets)
    names = result_names(media.stem, list(dict.fromkeys(languages)), options.form.formats)
    if planned is not None:
        names.append(planned.name_for(media.stem))
    return names


def _done_before(options: JobOptions, media: Media, planned: "Plan | None") -> list[str] | None:
    """What to say of a job that is to be resumed and is complete; None for all others."""
    if not options.resume or _journal_path(options, media.stem).exists():
        return None
    if _of_another(options, media):
        return None
    paths = [options.folder / name for name in _names(options, media, planned)]
    if not all(path.is_file() for path in paths):
        return None
    said = f"{media.title}: complete already; run it without --resume to do it again"
    return [said, *map(str, paths)]


def _languages_of(source: str | None, targets: Sequence[str]) -> dict[str, Any]:
    """The languages of a job for its span."""
    known = {"voxroute.source_language": source} if source else {}
    return {**known, "voxroute.target_languages": list(targets)}


def _journal(options: JobOptions, title: str, fingerprint: list[Any], told: Reporter) -> Journal:
    """The journal of the run. Raises OutputError, UsageError."""
    path = _journal_path(options, title)
    if not options.resume:
        journal = Journal.begin(path)
        journal.keep_fact(_RECORDING, fingerprint)
        return journal
    journal = Journal(path)
    before = journal.fact(_RECORDING)
    if before is None:
        journal.keep_fact(_RECORDING, fingerprint)
    elif before != fingerprint:
        journal.close()
        raise UsageError(
            "the run that is to be continued was of another recording than"
            f" {options.recording.label}; run without --resume to start anew, or name another"
            " folder with -o"
        )
    finished = sum(len(span.segments) for span in journal.spans().values())
    told.say(f"Resuming: {finished} segments are there already" if finished else "Resuming")
    return journal


def _fingerprint(recording: Source) -> list[Any]:
    """What tells a recording from others of its title: its size, and its first and last bytes.

    Blocking. Raises MediaNotFoundError.
    """
    digest = hashlib.sha256()
    try:
        with recording.path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            for start in (0, max(0, size - _FINGERPRINT_BYTES)):
                file.seek(start)
                digest.update(file.read(_FINGERPRINT_BYTES))
    except OSError as error:
        raise MediaNotFoundError(
            f"{recording.label} cannot be read any more ({error.strerror}); check the path"
        ) from error
    return [size, digest.hexdigest()]


def _journal_path(options: JobOptions, title: str) -> Path:
    return options.journal or journal_path(options.folder, title)


def _of_another(options: JobOptions, media: Media) -> bool:
    """Whether the complete results that are there are of another recording of the same title."""
    return not options.media_name and are_of_another(options.folder, media)


@contextlib.asynccontextmanager
async def _early(media: Media, options: JobOptions) -> AsyncGenerator[EarlyReader]:
    """The recording, whose start is decoded while the block begins.

    Raises MediaError, before the block, where there is nothing to decode.
    """
    reader = EarlyReader(
        media, start_s=options.start_s, end_s=options.end_s, max_s=options.max_audio_s
    )
    try:
        await reading(reader.watch, reader.check)
        ahead = asyncio.ensure_future(reading(reader.watch, reader.read_ahead))
        if is_cut(media.duration_s):  # with numpy, which comes while the services are asked
            asyncio.get_running_loop().run_in_executor(None, importlib.import_module, "numpy")
        yield reader
        await ahead
    finally:
        reader.close()


async def _transcribe(  # noqa: PLR0917 - what a job is made of, once
    options: JobOptions,
    media: Media,
    journal: Journal,
    connected: Connected,
    told: Reporter,
    reader: EarlyReader,
) -> tuple[Transcript, list[Path]]:
    """What came out, and the files with it. Raises VoxrouteError where it is not complete."""
    source = options.source
    needed = _to_translate(options)
    if source is not None and needed:
        await _check_pairs(connected, source, needed)
    diarizer = await _diarizer(connected, options) if options.tells_speakers else None
    job = Job(
        media=media,
        source_language=source,
        target_languages=options.targets,
        allowed_languages=options.allowed_languages,
        word_timestamps=_wants_words(options),
        align=options.align,
        speakers=options.tells_speakers,
        min_speakers=options.min_speakers,
        max_speakers=options.max_speakers,
        strict_options=options.strict,
        vad_disabled=options.vad_disabled,
        glossary=options.glossary,
        start_s=options.start_s,
        end_s=options.end_s,
        max_audio_s=options.max_audio_s,
    )
    current = Run(
        job,
        connected.speech,
        connected.translators,
        told,
        journal=journal,
        next_asr=connected.next_asr,
        next_translate=connected.next_translate,
        aligner=connected.aligner if options.words or options.align else None,
        diarizer=diarizer,
        reader=reader,
    )
    for note in connected.notes:
        if note not in current.transcript.warnings:
            current.transcript.warnings.append(note)
    if options.tells_speakers and diarizer is None:
        await current.note(Note(source="orchestrator", code=NO_DIARIZER, message=_NO_DIARIZER))
    try:
        await current.execute()
    except asyncio.CancelledError:
        if not current.transcript.recognition.complete:
            current.transcript.error = "interrupted"
        _write(current.transcript, options, told)
        raise
    paths = _write(current.transcript, options, told)
    if current.errors:
        raise current.errors[0]
    return current.transcript, paths


def needs_of(options: JobOptions) -> Needs:
    """What the job needs of its services."""
    return Needs(
        speech=True,
        translation=bool(_to_translate(options)),
        language=options.source,
        asr_model=options.model,
        translate_model=options.translate_model,
        pairs=tuple((options.source, t) for t in _to_translate(options) if options.source),
        words=_wants_words(options),
        align=options.align,
        diarization_model=options.diarization_model,
        strict=options.strict,
        backend=options.backend,
        device=options.device,
        translate_device=options.translate_device,
        compute_type=options.compute_type,
        batch_size=options.batch_size,
        only_asr_endpoints=options.only_asr_endpoints,
        only_translate_endpoints=options.only_translate_endpoints,
        patience_s=options.patience_s,
    )


def _wants_words(options: JobOptions) -> bool:
    """Whether recognition is to time the words: also for speakers, who change within a segment."""
    return not options.align and (options.words or (options.tells_speakers and not options.strict))


async def _diarizer(connected: Connected, options: JobOptions) -> Service | None:
    """Who tells the speakers apart. Raises RefusedError for nobody, where options are strict."""
    service = await connected.diarizer()
    if service is None and options.strict:
        raise RefusedError(_NO_DIARIZER)
    return service


def _to_translate(options: JobOptions) -> list[str]:
    source = options.source
    return [t for t in options.targets if source is None or not same_language(source, t)]


def _services(
    options: JobOptions, settings: Settings, told: Reporter, observe: ObserveRoute
) -> contextlib.AbstractAsyncContextManager[Connected]:
    if options.connected is not None:
        return contextlib.nullcontext(options.connected)
    needs = needs_of(options)
    return services(
        settings,
        needs,
        environment(),
        told.say,
        told.warn,
        observe=observe,
        waits=waits(told),
    )


async def _check_pairs(connected: Connected, source: str, targets: list[str]) -> None:
    """Raises RefusedError before any work where a language cannot be had."""
    best = connected.translators[0]
    if best.model:
        return  # the service has not loaded it yet, so its pairs are not known
    client = best.client
    pairs = await client.pairs()
    for target in targets:
        check_pair(pairs, source, target, client.endpoint, same_language)


def environment() -> dict[str, str]:
    """What local services inherit."""
    return dict(os.environ)


def _write(transcript: Transcript, options: JobOptions, told: Reporter) -> list[Path]:
    """Writes the results; hours of work are not lost to a full disk without another try."""
    paths: list[Path] = []
    try:
        write_results(transcript, options.folder, paths.append, options.form)
    except OutputError as error:
        refuge = Path(tempfile.mkdtemp(prefix="voxroute-results-"))
        with contextlib.suppress(OutputError):
            write_results(transcript, refuge, paths.append, options.form)
            raise OutputError(f"{error}. The results are in {refuge} instead") from error
        raise
    if not transcript.complete:
        for path in paths:
            told.say(f"kept: {path}")
    return paths


async def _mux(
    transcript: Transcript, options: JobOptions, planned: "Plan", told: Reporter
) -> Path:
    """Writes the copy of the media; a cancel stops it. Raises VoxrouteError."""
    from voxroute_orchestrator.mux import mux  # noqa: PLC0415 - few commands do

    source = options.recording
    target = options.folder / planned.name_for(transcript.media.stem)
    told.say(f"copying {source.label} with its subtitles")
    watch, tracks = Watch(source.label), tracks_of(transcript, options.form)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()

    def copy() -> list[str]:
        try:
            return mux(source, target, tracks, watch, planned)
        finally:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(ended.set)

    try:
        left_out = await reading(watch, copy)
    except asyncio.CancelledError:
        with contextlib.suppress(TimeoutError):  # a copy that stands still is left behind
            await asyncio.wait_for(ended.wait(), _STOP_S)
        raise
    for sentence in left_out[len(planned.left_out) :]:  # the others were told before the work
        told.warn(sentence)
    return target


def _summary(transcript: Transcript, form: ResultForm) -> list[str]:
    """What was done, and everything that a person should look at."""
    stats = transcript.recognition.run.stats
    first = (
        f"{transcript.media.title}: {len(transcript.segments)} segments"
        f" ({transcript.language or 'language unknown'}), {stats.speech_s:.0f} s of speech in"
        f" {stats.audio_s:.0f} s ({max(0.0, stats.audio_s - stats.speech_s):.0f} s without speech"
        f" were left out), {transcript.wall_s:.0f} s of work"
    )
    lines = [first]
    track = transcript.media.audio_track
    if track and track.split(",")[0] != "track 1 of 1":
        lines.append(f"  audio: {track} (--audio-stream chooses)")
    doubtful = [segment.flags for segment in transcript.segments if segment.flags]
    if doubtful:
        counts = Counter(flag for flags in doubtful for flag in flags)
        named = ", ".join(
            f"{count} {flag.lower().replace('_', ' ')}" for flag, count in counts.most_common()
        )
        where = "left out of the subtitles" if form.drop_flagged else "flagged in the transcript"
        lines.append(f"  {len(doubtful)} segments are doubtful ({named}), {where}")
    if transcript.untranscribed:
        lines.append(f"  {_untranscribed(transcript.untranscribed)}")
    speakers = {segment.speaker for segment in transcript.segments if segment.speaker}
    if speakers:
        lines.append(f"  {len(speakers)} speakers")
    for target, translation in transcript.translations.items():
        lines += _translation_summary(target, [item.status for item in translation.items])
        lines += tally(translation.items).lines(target)
    return lines


def _untranscribed(stretches: Sequence[Untranscribed]) -> str:
    """Speech without text, and the longest stretches of it."""
    total_s = sum(one.end_s - one.start_s for one in stretches)
    longest = sorted(stretches, key=lambda one: one.start_s - one.end_s)[:_MOST_PLACES]
    places = ", ".join(
        f"{clock(one.start_s)}-{clock(one.end_s)}"
        for one in sorted(longest, key=lambda one: one.start_s)
    )
    more = len(stretches) - len(longest)
    rest = f" and {more} more places, all in the transcript" if more else ""
    return f"{total_s:.0f} s of speech without text: {places}{rest}"


def _translation_summary(target: str, statuses: list[str]) -> list[str]:
    lines = [f"{target}: {len(statuses)} cues translated"]
    sentences = {
        "FAILED": "could not be translated; the subtitles show them as [untranslated: ...]",
        "SUSPECT": "are doubtful; the transcript says why",
        "TRUNCATED": "were too long for the model and are cut off",
        "PASSTHROUGH": "had nothing to translate",
    }
    for status, sentence in sentences.items():
        count = statuses.count(status)
        if count:
            lines.append(f"  {target}: {count} {sentence}")
    return lines


@dataclass(frozen=True, kw_only=True)
class FileJob:
    """The translation of a subtitle file."""

    title: str
    cues: list[Cue]
    source: str
    targets: tuple[str, ...]
    folder: Path
    model: str
    strict: bool
    glossary: tuple[GlossaryTerm, ...] = ()
    form: ResultForm = DEFAULT_FORM
    results: dict[str, dict[int, TranslatedSegment]] = field(
        default_factory=dict[str, dict[int, TranslatedSegment]]
    )
    """By language, by number of the turn."""

    @cached_property
    def turns(self) -> list[tuple[int, Turn]]:
        """What is said in turn, each with the number of its cue."""
        return [
            (number, turn)
            for number, cue in enumerate(self.cues)
            for turn in turns_of(cue.text) or [Turn("", cue.text)]
        ]

    def of_cues(self, target: str) -> list[TranslatedSegment]:
        """The results under the numbers of their cues: of a cue with several turns all of them."""
        return [
            result.model_copy(update={"segment_id": self.turns[turn][0]})
            for turn, result in sorted(self.results.get(target, {}).items())
        ]

    def statuses(self, target: str) -> list[str]:
        """What became of each cue: of its turns the one that went worst."""
        worst: dict[int, str] = {}
        for result in self.of_cues(target):
            before = worst.get(result.segment_id, result.status)
            worst[result.segment_id] = min(before, result.status, key=_WORST_FIRST.index)
        return list(worst.values())

    def _translated(self, target: str) -> list[Cue]:
        """The cues all of whose turns are translated, each turn on a line with its mark."""
        results = self.results.get(target, {})
        lines: dict[int, list[str] | None] = {}
        for turn, (number, said) in enumerate(self.turns):
            before = lines.setdefault(number, [])
            if turn not in results:
                lines[number] = None
            elif before is not None:
                before.append(str(replace(said, text=_turn_text(said, results[turn]))))
        return [
            replace(self.cues[number], text="\n".join(texts))
            for number, texts in lines.items()
            if texts is not None
        ]

    def write(self, target: str) -> list[Path]:
        """Writes one language: as a partial file where cues are missing."""
        translated = self._translated(target)
        complete = len(translated) == len(self.cues)
        named = with_speakers(translated) if self.form.speaker_prefix else translated
        wrapped = [part for cue in translated for part in rewrapped(cue, self.form.rules)]
        named = [part for cue in named for part in rewrapped(cue, self.form.rules)]
        if complete:
            texts = {
                kind: FORMATS[kind](named if kind == "srt" else wrapped, target)
                for kind in self.form.formats
            }
        else:
            texts = {"partial.srt": to_srt(named)} if named else {}
        paths: list[Path] = []
        for kind, text in texts.items():
            paths.append(self.folder / subtitle_name(self.title, target, kind))
            write_atomic(paths[-1], text)
        keep_own_files(self.folder, self.title, paths)
        return paths


_WORST_FIRST = ("FAILED", "TRUNCATED", "SUSPECT", "OK", "PASSTHROUGH")


def _turn_text(turn: Turn, item: TranslatedSegment) -> str:
    return f"[untranslated: {flat(turn.text)}]" if item.status == "FAILED" else flat(item.text)


class _FileEvents:
    """Keeps the results of one language."""

    def __init__(self, job: FileJob, target: str, told: Reporter) -> None:
        self._results = job.results.setdefault(target, {})
        self._job = job
        self._told = told
        self._stage = f"translating to {target}"

    async def accepted(
        self,
        request_id: str,
        model: Model,
        device: Device,
        options: dict[str, Any],
        ignored: list[IgnoredOption],
    ) -> None:
        """Tells who answers."""
        of_call = {name: value for name, value in options.items() if name != "glossary"}
        _log.info("translation accepted", request_id=request_id, options=of_call)
        self._told.say(f"{self._stage}: {model.id} ({model.engine}) on {device.name}")
        for option in ignored:
            if option.was_asked_for:
                self._told.warn(f"{option.field} is ignored: {option.reason}")

    async def result(self, item: TranslatedSegment) -> None:
        """Keeps a translation."""
        self._results[item.segment_id] = item
        cue = self._job.cues[self._job.turns[item.segment_id][0]]
        self._told.advance(self._stage, cue.end_ms / 1000)

    async def note(self, note: Note) -> None:
        """Tells a warning."""
        self._told.warn(note.message)

    async def done(self, stats: TranslationStats) -> None:
        """Logs the cost."""
        _log.info("translation done", **stats.model_dump())


async def translate_subtitles(job: FileJob, settings: Settings, told: Reporter) -> list[str]:
    """Does the job; returns its summary and the paths of its files. Raises VoxrouteError."""
    with in_job("", _languages_of(job.source, job.targets)):
        return await _translate_file(job, settings, told)


async def _translate_file(job: FileJob, settings: Settings, told: Reporter) -> list[str]:
    targets = [t for t in job.targets if not same_language(job.source, t)]
    pairs = tuple((job.source, target) for target in targets)
    needs = Needs(speech=False, translation=True, translate_model=job.model, pairs=pairs)
    if not targets:
        raise UsageError(f"the file is {job.source} already; name another language with -t")
    lines: list[str] = []
    try:
        async with services(
            settings, needs, environment(), told.say, told.warn, waits=waits(told)
        ) as connected:
            await _check_pairs(connected, job.source, targets)
            for target in targets:
                await _translate_to(job, target, connected, told)
    except (asyncio.CancelledError, VoxrouteError):
        for target in targets:
            for path in job.write(target):
                told.say(f"kept: {path}")
        raise
    for target in targets:
        lines += _translation_summary(target, job.statuses(target))
        lines += tally(job.of_cues(target)).lines(target, first_id=1)
        lines += [str(path) for path in job.write(target)]
    return lines


async def _translate_to(job: FileJob, target: str, connected: Connected, told: Reporter) -> None:
    translator = connected.translators[0]
    total_s = max(cue.end_ms for cue in job.cues) / 1000
    told.stage(f"translating to {target}", total_s)
    items = ItemPool()
    texts = [flat(turn.text) for _, turn in job.turns]
    for number, text in enumerate(texts):
        first = number if job.strict else max(0, number - 2)  # most models refuse it where strict
        items.put(TranslateItem(number, text, tuple(texts[first:number])))
    items.end()
    request = TranslateRequest(
        job.source, target, items, translator.model, total_s, job.strict, job.glossary
    )
    await translator.client.translate(request, _FileEvents(job, target, told))
    told.finish(f"translating to {target}")
