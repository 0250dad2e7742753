"""What the commands do: a recording to subtitles, or subtitles to other languages."""

import asyncio
import contextlib
import hashlib
import importlib
import os
import tempfile
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from voxroute_orchestrator.client.calling import in_job
from voxroute_orchestrator.client.translate import check_pair
from voxroute_orchestrator.client.upload import Service
from voxroute_orchestrator.errors import MediaNotFoundError, OutputError, RefusedError, UsageError
from voxroute_orchestrator.files import claimed
from voxroute_orchestrator.fleet.connect import Connected, services
from voxroute_orchestrator.fleet.needs import Needs, ObserveRoute, observe_nothing
from voxroute_orchestrator.job import JobOptions
from voxroute_orchestrator.media import Source, check_length, probe
from voxroute_orchestrator.pipeline.journal import Journal, discard, journal_path
from voxroute_orchestrator.pipeline.parts import is_cut
from voxroute_orchestrator.pipeline.read_ahead import EarlyReader
from voxroute_orchestrator.pipeline.run import Job, Run
from voxroute_orchestrator.pipeline.summary import transcript_summary
from voxroute_orchestrator.reading import reading
from voxroute_orchestrator.reporter import Reporter, waits
from voxroute_orchestrator.settings import Settings
from voxroute_orchestrator.subtitles.results import (
    are_of_another,
    prepare_results,
    result_names,
    tell_shortened,
    tracks_of,
    transcript_name,
    write_results,
)
from voxroute_orchestrator.transcript import Media, Note, Transcript, same_language
from voxroute_serving.audio.media import Watch
from voxroute_serving.telemetry.logs import get_logger

if TYPE_CHECKING:
    from voxroute_orchestrator.subtitles.mux import Plan

NO_DIARIZER = "NO_DIARIZER"
_NO_DIARIZER = (
    "no speech service that answers tells speakers apart; start a WhisperX service with"
    " --diarization-model, or name one that runs with --asr-endpoint HOST:PORT"
)

_RECORDING = "recording"  # the fact of the journal
_FINGERPRINT_BYTES = 1 << 16
_STOP_S = 2.0  # for a copy to take away what it has written

T = TypeVar("T")
_log = get_logger(__name__)


async def transcribe_media(
    options: JobOptions,
    settings: Settings,
    told: Reporter,
    observe_route: ObserveRoute = observe_nothing,
    connected: Connected | None = None,
) -> list[str]:
    """Does the job; returns its summary and the paths of its files. Raises VoxrouteError.

    `connected` are services that several jobs share; without, the job finds or starts its own.

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
    about = languages_of(options.source, options.targets)
    if media.duration_s is not None:
        about["voxroute.media_s"] = media.duration_s
    with in_job(options.job_id, about), claimed(options.folder, media.stem):
        needed = contextlib.nullcontext(connected) if connected is not None else None
        needed = needed or _services(options, settings, told, observe_route)
        return await _results(options, media, planned, needed, told)


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
    from voxroute_orchestrator.subtitles.mux import plan  # noqa: PLC0415 - few commands do

    return plan(options.recording)


async def _results(
    options: JobOptions,
    media: Media,
    planned: "Plan | None",
    needed: contextlib.AbstractAsyncContextManager[Connected],
    told: Reporter,
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
            async with needed as connected:
                transcript, paths = await _transcribe(
                    options, media, journal, connected, told, reader
                )
            if planned is not None:
                paths.append(await _mux(transcript, options, planned, told))
    discard(journal.path)
    return [*transcript_summary(transcript, options.form), *(str(path) for path in paths)]


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


def languages_of(source: str | None, targets: Sequence[str]) -> dict[str, Any]:
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
        await check_pairs(connected, source, needed)
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


async def check_pairs(connected: Connected, source: str, targets: list[str]) -> None:
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
    from voxroute_orchestrator.subtitles.mux import mux  # noqa: PLC0415 - few commands do

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
