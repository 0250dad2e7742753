"""What the commands do: a recording to subtitles, or subtitles to other languages."""

import asyncio
import contextlib
import hashlib
import importlib
import os
import tempfile
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from voxroute_orchestrator.client.asr import AsrClient
from voxroute_orchestrator.client.calling import in_job
from voxroute_orchestrator.client.translate import check_pair
from voxroute_orchestrator.errors import MediaNotFoundError, OutputError, RefusedError, UsageError
from voxroute_orchestrator.files import claimed
from voxroute_orchestrator.fleet.connect import Connected, services
from voxroute_orchestrator.fleet.needs import Needs, ObserveRoute, observe_nothing
from voxroute_orchestrator.job import Job
from voxroute_orchestrator.media import Source, check_length, probe
from voxroute_orchestrator.pipeline.journal import (
    Journal,
    OpenJournal,
    SqliteJournal,
    discard,
    journal_path,
)
from voxroute_orchestrator.pipeline.parts import is_cut
from voxroute_orchestrator.pipeline.read_ahead import EarlyReader
from voxroute_orchestrator.pipeline.run import Run
from voxroute_orchestrator.pipeline.summary import transcript_summary
from voxroute_orchestrator.pipeline.workers import OpenWorkers, Workers
from voxroute_orchestrator.reading import reading
from voxroute_orchestrator.reporter import Reporter, clock, waits
from voxroute_orchestrator.settings import Settings
from voxroute_orchestrator.spec import AskedError, JobSpec
from voxroute_orchestrator.subtitles.results import (
    are_of_another,
    prepare_results,
    result_names,
    tell_shortened,
    tracks_of,
    transcript_name,
    write_results,
)
from voxroute_orchestrator.transcript import Media, Note, Transcript
from voxroute_serving.audio.media import Watch
from voxroute_serving.telemetry.logs import get_logger

if TYPE_CHECKING:
    from voxroute_orchestrator.subtitles.mux import Plan

NO_DIARIZER = "NO_DIARIZER"
_NO_DIARIZER = (
    "no speech service that answers tells speakers apart; start one with"
    " --diarization-model, or name one that runs with --asr-endpoint HOST:PORT"
)

_RECORDING = "recording"  # the fact of the journal
_FINGERPRINT_BYTES = 1 << 16
_STOP_S = 2.0  # for a copy to take away what it has written

T = TypeVar("T")
_log = get_logger(__name__)


async def transcribe_media(
    job: Job,
    settings: Settings,
    told: Reporter,
    observe_route: ObserveRoute = observe_nothing,
    connected: Connected | None = None,
    *,
    open_journal: OpenJournal | None = None,
    open_workers: OpenWorkers | None = None,
) -> list[str]:
    """Does the job; returns its summary and the paths of its files. Raises VoxrouteError.

    `connected` are services that several jobs share; without, the job finds or starts its own.
    What is finished is in the journal that `open_journal` opens; without, in a file. Workers that
    `open_workers` answers do the speech and the translations, beside services that are configured,
    if any.

    One that is to be resumed and whose files are all there is not done again. `observe_route` is
    told which services were chosen. The rules of cues are those of the settings, whoever has made
    the job.
    """
    job = replace(job, rules=settings.subtitles)
    media, before, planned = await _reading(job, lambda: probed(job))
    if before is not None:
        return before
    check_part(job.spec, media)
    if media.duration_s is not None:
        end_s = min(media.duration_s, job.spec.end_s or media.duration_s)
        check_length(end_s - job.spec.start_s, job.max_audio_s, media.path)
    about = languages_of(job.spec.source, job.spec.target_languages)
    if media.duration_s is not None:
        about["voxroute.media_s"] = media.duration_s
    with in_job(job.job_id, about), claimed(job.folder, media.stem):
        needed = contextlib.nullcontext(connected) if connected is not None else None
        needed = needed or _services(job, settings, told, observe_route, alone=not open_workers)
        async with _coming(open_workers, job) as workers:
            shared = _Shared(open_journal, workers)
            return await _results(job, media, planned, needed, told, shared)


def check_part(spec: JobSpec, media: Media) -> None:
    """Raises AskedError where there is nothing of the media in the part that is wanted."""
    duration_s, begins_s = media.duration_s, media.audio_start_s
    if duration_s is not None and spec.start_s >= duration_s:
        raise AskedError(
            "start_s",
            f"{{start_s}} {clock(spec.start_s)} is beyond the end of the media"
            f" ({clock(duration_s)})",
        )
    if spec.end_s is not None and begins_s >= spec.end_s:
        raise AskedError(
            "end_s",
            f"the sound of the media begins at {clock(begins_s)}, behind {{end_s}}"
            f" {clock(spec.end_s)}",
        )


async def _reading(job: Job, call: Callable[[], T]) -> T:
    """What `call` returns, which reads the media. Raises MediaStalledError."""
    return await reading(Watch(job.recording.label), call)


def probed(job: Job) -> "tuple[Media, list[str] | None, Plan | None]":
    """The media, what to say where all is done already, and the plan of a copy that is wanted.

    Blocking. Raises MediaError; UsageError where no copy with subtitles can be made of it.
    """
    media = looked_at(job)
    planned = _planned(job)
    return media, _done_before(job, media, planned), planned


def looked_at(job: Job) -> Media:
    """The media, with the track and the channel that the job is about. Raises MediaError."""
    return probe(
        job.recording,
        stream=job.spec.audio_stream,
        language=job.spec.source or next(iter(job.spec.allowed_languages), None),
        channel=job.spec.audio_channel,
    )


def _planned(job: Job) -> "Plan | None":
    """What the copy with subtitles will be; None where none is wanted. Blocking."""
    if not job.spec.mux:
        return None
    from voxroute_orchestrator.subtitles.mux import plan  # noqa: PLC0415 - few commands do

    return plan(job.recording)


async def _results(  # noqa: PLR0917 - what a job is made of, once
    job: Job,
    media: Media,
    planned: "Plan | None",
    needed: contextlib.AbstractAsyncContextManager[Connected],
    told: Reporter,
    shared: "_Shared",
) -> list[str]:
    names = _names(job, media, planned)
    prepare_results(
        job.folder,
        names,
        overwrite=job.overwrite,
        mark=None if _of_another(job, media) else transcript_name(media.stem),
    )
    tell_shortened(media.stem, names, told)
    for sentence in planned.left_out if planned else ():
        told.warn(sentence)
    fingerprint = await _reading(job, lambda: _fingerprint(job.recording))
    async with _early(media, job) as reader:
        opened = shared.open_journal() if shared.open_journal else _in_a_file(job, media.stem)
        journal = await opened
        try:
            await _take_up(journal, job, fingerprint, told)
            async with needed as connected:
                transcript, paths = await _transcribe(
                    job, media, journal, connected, told, reader, shared.workers
                )
            if planned is not None:
                paths.append(await _mux(transcript, job, planned, told))
        finally:
            await journal.close()
    await journal.discard()
    return [*transcript_summary(transcript, job.form), *(str(path) for path in paths)]


def _names(job: Job, media: Media, planned: "Plan | None") -> list[str]:
    """The names of the files that are to be there in the end."""
    languages = ([job.spec.source] if job.spec.source else []) + list(job.spec.target_languages)
    names = result_names(media.stem, list(dict.fromkeys(languages)), job.form.formats)
    if planned is not None:
        names.append(planned.name_for(media.stem))
    return names


def _done_before(job: Job, media: Media, planned: "Plan | None") -> list[str] | None:
    """What to say of a job that is to be resumed and is complete; None for all others."""
    if not job.resume or _journal_path(job, media.stem).exists():
        return None
    if _of_another(job, media):
        return None
    paths = [job.folder / name for name in _names(job, media, planned)]
    if not all(path.is_file() for path in paths):
        return None
    said = f"{media.title}: complete already; run it without --resume to do it again"
    return [said, *map(str, paths)]


def languages_of(source: str | None, targets: Sequence[str]) -> dict[str, Any]:
    """The languages of a job for its span."""
    known = {"voxroute.source_language": source} if source else {}
    return {**known, "voxroute.target_languages": list(targets)}


async def _in_a_file(job: Job, title: str) -> Journal:
    """The journal of the run in a file; an empty one unless the job is resumed.

    Raises OutputError, UsageError.
    """
    path = _journal_path(job, title)
    if not job.resume:
        discard(path)
    return SqliteJournal(path)


async def _take_up(journal: Journal, job: Job, fingerprint: list[Any], told: Reporter) -> None:
    """Goes on with what the journal holds. Raises OutputError, UsageError."""
    before = journal.fact(_RECORDING)
    if before is None:
        await journal.keep_fact(_RECORDING, fingerprint)
    elif before != fingerprint:
        raise UsageError(
            "the run that is to be continued was of another recording than"
            f" {job.recording.label}; run without --resume to start anew, or name another"
            " folder with -o"
        )
    if before is None and not job.resume:
        return
    finished = sum(len(span.segments) for span in journal.spans().values())
    told.say(f"Resuming: {finished} segments are there already" if finished else "Resuming")


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


def _journal_path(job: Job, title: str) -> Path:
    return job.journal or journal_path(job.folder, title)


def _of_another(job: Job, media: Media) -> bool:
    """Whether the complete results that are there are of another recording of the same title."""
    return not job.media_name and are_of_another(job.folder, media)


@contextlib.asynccontextmanager
async def _early(media: Media, job: Job) -> AsyncGenerator[EarlyReader]:
    """The recording, whose start is decoded while the block begins.

    Raises MediaError, before the block, where there is nothing to decode.
    """
    reader = EarlyReader(
        media, start_s=job.spec.start_s, end_s=job.spec.end_s, max_s=job.max_audio_s
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
    job: Job,
    media: Media,
    journal: Journal,
    connected: Connected,
    told: Reporter,
    reader: EarlyReader,
    workers: Workers | None,
) -> tuple[Transcript, list[Path]]:
    """What came out, and the files with it. Raises VoxrouteError where it is not complete."""
    source = job.spec.source
    needed = job.spec.to_translate
    if source is not None and needed and workers is None:
        await check_pairs(connected, source, needed)
    diarizer = await _diarizer(connected, job) if job.spec.tells_speakers else None
    current = Run(
        job.spec,
        media,
        connected,
        told,
        journal,
        reader=reader,
        diarizer=diarizer,
        max_audio_s=job.max_audio_s,
        workers=workers,
        rules=job.rules,
    )
    for note in connected.notes:
        if note not in current.transcript.warnings:
            current.transcript.warnings.append(note)
    if job.spec.tells_speakers and diarizer is None:
        await current.note(Note(source="orchestrator", code=NO_DIARIZER, message=_NO_DIARIZER))
    try:
        await current.execute()
    except asyncio.CancelledError:
        if not current.transcript.recognition.complete:
            current.transcript.error = "interrupted"
        _write(current, job, told)
        raise
    paths = _write(current, job, told)
    if current.errors:
        raise current.errors[0]
    return current.transcript, paths


def needs_of(job: Job, *, alone: bool = True) -> Needs:
    """What the job needs of its services.

    Where others may do the work, so that they are not `alone`, only those that are configured.
    """
    return Needs(
        job.spec,
        speech=alone or job.only_asr_endpoints,
        translation=bool(job.spec.to_translate) and (alone or job.only_translate_endpoints),
        only_asr_endpoints=job.only_asr_endpoints,
        only_translate_endpoints=job.only_translate_endpoints,
        patience_s=job.patience_s,
    )


async def _diarizer(connected: Connected, job: Job) -> AsrClient | None:
    """Who tells the speakers apart. Raises RefusedError for nobody, where options are strict."""
    service = await connected.diarizer()
    if service is None and job.spec.strict:
        raise RefusedError(_NO_DIARIZER)
    return service


@dataclass(frozen=True, slots=True)
class _Shared:
    """What a job has where several hosts do the jobs; nothing of it elsewhere."""

    open_journal: OpenJournal | None
    workers: Workers | None


@contextlib.asynccontextmanager
async def _coming(open_workers: OpenWorkers | None, job: Job) -> AsyncGenerator[Workers | None]:
    """The workers that may do a part of the job; None for none."""
    if open_workers is None:
        yield None
        return
    workers = open_workers(job.spec.asr_model, job.spec.translate_model)
    try:
        yield workers
    finally:
        await workers.close()


def _services(
    job: Job, settings: Settings, told: Reporter, observe: ObserveRoute, *, alone: bool
) -> contextlib.AbstractAsyncContextManager[Connected]:
    """`alone`: whether nobody does the work but these, so that one is started if need be."""
    return services(
        settings,
        needs_of(job, alone=alone),
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
    pairs = await best.pairs()
    for target in targets:
        check_pair(pairs, source, target, best.endpoint)


def environment() -> dict[str, str]:
    """What local services inherit."""
    return dict(os.environ)


def _write(run: Run, job: Job, told: Reporter) -> list[Path]:
    """Writes the results; hours of work are not lost to a full disk without another try."""
    transcript, cues = run.transcript, run.cues
    paths: list[Path] = []
    try:
        write_results(transcript, job.folder, paths.append, job.form, cues)
    except OutputError as error:
        refuge = Path(tempfile.mkdtemp(prefix="voxroute-results-"))
        with contextlib.suppress(OutputError):
            write_results(transcript, refuge, paths.append, job.form, cues)
            raise OutputError(f"{error}. The results are in {refuge} instead") from error
        raise
    if not transcript.complete:
        for path in paths:
            told.say(f"kept: {path}")
    return paths


async def _mux(transcript: Transcript, job: Job, planned: "Plan", told: Reporter) -> Path:
    """Writes the copy of the media; a cancel stops it. Raises VoxrouteError."""
    from voxroute_orchestrator.subtitles.mux import mux  # noqa: PLC0415 - few commands do

    source = job.recording
    target = job.folder / planned.name_for(transcript.media.stem)
    told.say(f"copying {source.label} with its subtitles")
    watch, tracks = Watch(source.label), tracks_of(transcript, job.form)
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
