"""The commands that do work, or tell who would: run, transcribe, translate, prepare and so on."""

import asyncio
import contextlib
import dataclasses
import os
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from voxroute_orchestrator import __version__, credentials, standard_streams, subtitles
from voxroute_orchestrator.batch import (
    Outcome,
    exit_code,
    find,
    is_batch,
    run_batch,
    table_row,
)
from voxroute_orchestrator.bootstrap import CACHE_NAME, Bootstrap
from voxroute_orchestrator.bootstrap import bootstrap as find_out
from voxroute_orchestrator.bootstrap import report as hardware_report
from voxroute_orchestrator.cli import fail
from voxroute_orchestrator.cli_options import (
    DEFAULT_FORMATS,
    AlignOption,
    AsrEndpointOption,
    Backend,
    BackendOption,
    ConfigOption,
    DeviceChoice,
    DeviceOption,
    DiarizationModelOption,
    DropFlaggedOption,
    EndTimeOption,
    FormatOption,
    GlossaryOption,
    HlsFolderOption,
    LogLevel,
    LogLevelOption,
    MaxSpeakersOption,
    MaybeTargetOption,
    MediaArgument,
    MediaArguments,
    MinSpeakersOption,
    ModelOption,
    MuxOption,
    NoVadOption,
    OfflineOption,
    OutputOption,
    OverwriteOption,
    PrefixOption,
    QuietOption,
    ResumeOption,
    SourceOption,
    SpeakersOption,
    StartTimeOption,
    StreamOption,
    StrictOption,
    TargetOption,
    TranslateEndpointOption,
    TranslateModelOption,
    WordsOption,
)
from voxroute_orchestrator.commands import (
    FileJob,
    JobOptions,
    transcribe_media,
    translate_subtitles,
)
from voxroute_orchestrator.connections import (
    Needs,
    speech_decision,
    survey,
    translation_decision,
)
from voxroute_orchestrator.errors import (
    EXIT_CODES,
    EXIT_OK,
    JobInterruptedError,
    ServiceUnavailableError,
    UsageError,
    VoxrouteError,
)
from voxroute_orchestrator.glossary import read as read_glossary
from voxroute_orchestrator.hardware import detect
from voxroute_orchestrator.jobs import (
    JobReporter,
    Preparation,
    check_media,
    completed,
    find_job,
    job_summary,
    options_of,
    prepare_job,
    read_config,
    read_job,
)
from voxroute_orchestrator.output import claimed
from voxroute_orchestrator.progress import reporter
from voxroute_orchestrator.results import ResultForm, prepare_results, subtitle_names
from voxroute_orchestrator.settings import Settings, has_bundled_models, load
from voxroute_orchestrator.tables import print_table
from voxroute_orchestrator.transcript import standard_tag
from voxroute_serving import tracing
from voxroute_serving.logs import set_up_logs

app = typer.Typer(add_completion=False)


@app.command(epilog=EXIT_CODES)
def run(
    *,
    media: MediaArguments,
    target: TargetOption,
    source: SourceOption = None,
    output: OutputOption = Path(),
    model: ModelOption = "",
    translate_model: TranslateModelOption = "",
    glossary: GlossaryOption = None,
    words: WordsOption = False,
    align: AlignOption = False,
    speakers: SpeakersOption = False,
    min_speakers: MinSpeakersOption = 0,
    max_speakers: MaxSpeakersOption = 0,
    diarization_model: DiarizationModelOption = "",
    no_vad: NoVadOption = False,
    audio_stream: StreamOption = None,
    hls_folder: HlsFolderOption = False,
    strict: StrictOption = False,
    overwrite: OverwriteOption = False,
    resume: ResumeOption = False,
    jobs: Annotated[
        int, typer.Option("--jobs", min=1, help="Of several recordings, so many at once.")
    ] = 1,
    formats: FormatOption = DEFAULT_FORMATS,
    speaker_prefix: PrefixOption = False,
    drop_flagged: DropFlaggedOption = False,
    mux: MuxOption = False,
    offline: OfflineOption = False,
    backend: BackendOption = Backend.auto,
    device: DeviceOption = DeviceChoice.auto,
    asr_endpoint: AsrEndpointOption = None,
    translate_endpoint: TranslateEndpointOption = None,
    config: ConfigOption = None,
    quiet: QuietOption = False,
    log_level: LogLevelOption = LogLevel.warning,
) -> None:
    """Turn recordings into transcripts and translated subtitles."""
    _check_speakers(min_speakers, max_speakers)
    spoken = _languages([source]) if source else ()
    settings = _settings(offline, asr_endpoint, translate_endpoint, config, log_level)
    options = JobOptions(
        media=Path(media[0]),
        hls_folder=hls_folder,
        source=spoken[0] if len(spoken) == 1 else None,
        allowed_languages=spoken if len(spoken) > 1 else (),
        targets=_languages(target),
        glossary=read_glossary(glossary) if glossary else (),
        folder=output,
        model=model,
        translate_model=translate_model,
        audio_stream=audio_stream,
        words=words,
        align=align,
        speakers=speakers,
        min_speakers=min_speakers,
        max_speakers=max_speakers,
        diarization_model=diarization_model or settings.diarization_model,
        vad_disabled=no_vad,
        strict=strict,
        overwrite=overwrite,
        resume=resume,
        form=_form(formats, settings, speaker_prefix=speaker_prefix, drop_flagged=drop_flagged),
        mux=mux,
        backend=backend.value,
        device=device.value,
        only_asr_endpoints=bool(asr_endpoint),
        only_translate_endpoints=bool(translate_endpoint),
    )
    if is_batch(media):
        _run_batch(media, options, settings, at_once=jobs, quiet=quiet)
    else:
        _run_job(options, settings, quiet=quiet)


@app.command(epilog=EXIT_CODES)
def transcribe(
    *,
    media: MediaArgument,
    source: SourceOption = None,
    output: OutputOption = Path(),
    model: ModelOption = "",
    words: WordsOption = False,
    align: AlignOption = False,
    speakers: SpeakersOption = False,
    min_speakers: MinSpeakersOption = 0,
    max_speakers: MaxSpeakersOption = 0,
    diarization_model: DiarizationModelOption = "",
    no_vad: NoVadOption = False,
    audio_stream: StreamOption = None,
    hls_folder: HlsFolderOption = False,
    strict: StrictOption = False,
    overwrite: OverwriteOption = False,
    resume: ResumeOption = False,
    formats: FormatOption = DEFAULT_FORMATS,
    speaker_prefix: PrefixOption = False,
    drop_flagged: DropFlaggedOption = False,
    mux: MuxOption = False,
    offline: OfflineOption = False,
    backend: BackendOption = Backend.auto,
    device: DeviceOption = DeviceChoice.auto,
    asr_endpoint: AsrEndpointOption = None,
    config: ConfigOption = None,
    quiet: QuietOption = False,
    log_level: LogLevelOption = LogLevel.warning,
) -> None:
    """Turn a recording into a transcript and subtitles in its own language."""
    _check_speakers(min_speakers, max_speakers)
    spoken = _languages([source]) if source else ()
    settings = _settings(offline, asr_endpoint, None, config, log_level)
    _run_job(
        JobOptions(
            media=media,
            hls_folder=hls_folder,
            source=spoken[0] if len(spoken) == 1 else None,
            allowed_languages=spoken if len(spoken) > 1 else (),
            folder=output,
            model=model,
            audio_stream=audio_stream,
            words=words,
            align=align,
            speakers=speakers,
            min_speakers=min_speakers,
            max_speakers=max_speakers,
            diarization_model=diarization_model or settings.diarization_model,
            vad_disabled=no_vad,
            strict=strict,
            overwrite=overwrite,
            resume=resume,
            form=_form(formats, settings, speaker_prefix=speaker_prefix, drop_flagged=drop_flagged),
            mux=mux,
            backend=backend.value,
            device=device.value,
            only_asr_endpoints=bool(asr_endpoint),
        ),
        settings,
        quiet=quiet,
    )


@app.command(epilog=EXIT_CODES)
def translate(
    *,
    subtitle_file: Annotated[Path, typer.Argument(help="Subtitles: SRT, WebVTT, ASS or SSA.")],
    source: Annotated[str, typer.Option("-s", "--source", help="Language of the file.")],
    target: TargetOption,
    output: OutputOption = Path(),
    translate_model: TranslateModelOption = "",
    encoding: Annotated[
        str | None, typer.Option("--encoding", help="Encoding of the file; else UTF-8 or UTF-16.")
    ] = None,
    glossary: GlossaryOption = None,
    strict: StrictOption = False,
    overwrite: OverwriteOption = False,
    formats: FormatOption = DEFAULT_FORMATS,
    speaker_prefix: PrefixOption = False,
    offline: OfflineOption = False,
    translate_endpoint: TranslateEndpointOption = None,
    config: ConfigOption = None,
    quiet: QuietOption = False,
    log_level: LogLevelOption = LogLevel.warning,
) -> None:
    """Translate a subtitle file; times stay as they are."""
    language, targets = _language(source), _languages(target)
    settings = _settings(offline, None, translate_endpoint, config, log_level)
    cues = subtitles.read(subtitle_file, encoding=encoding)
    title = subtitle_file.stem
    if Path(title).suffix.lower() == f".{source}".lower():
        title = Path(title).stem
    job = FileJob(
        title=title,
        cues=cues,
        source=language,
        targets=targets,
        folder=output,
        model=translate_model,
        strict=strict,
        glossary=read_glossary(glossary) if glossary else (),
        form=_form(formats, settings, speaker_prefix=speaker_prefix),
    )
    names = subtitle_names(title, targets, job.form.formats)
    with claimed(output, title), reporter(quiet=quiet) as told:
        prepare_results(output, names, overwrite=overwrite)
        _finish(_interruptible(translate_subtitles(job, settings, told)))


@app.command(epilog=EXIT_CODES)
def route(
    *,
    source: SourceOption = None,
    target: MaybeTargetOption = None,
    model: ModelOption = "",
    translate_model: TranslateModelOption = "",
    words: WordsOption = False,
    strict: StrictOption = False,
    backend: BackendOption = Backend.auto,
    device: DeviceOption = DeviceChoice.auto,
    asr_endpoint: AsrEndpointOption = None,
    translate_endpoint: TranslateEndpointOption = None,
    config: ConfigOption = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Every candidate, with its place and the reason.")
    ] = False,
    log_level: LogLevelOption = LogLevel.warning,
) -> None:
    """Show which service would do a job, without doing it."""
    settings = _settings(False, asr_endpoint, translate_endpoint, config, log_level)
    needs = Needs(
        speech=True,
        translation=bool(target),
        language=_language(source) if source else None,
        asr_model=model,
        translate_model=translate_model,
        words=words,
        strict=strict,
        backend=backend.value,
        device=device.value,
        only_asr_endpoints=bool(asr_endpoint),
        only_translate_endpoints=bool(translate_endpoint),
    )
    host, statuses = detect(), asyncio.run(survey(settings))
    decisions = [("speech", speech_decision(settings, needs, host, statuses))]
    if target:
        decisions.append(("translation", translation_decision(settings, needs, host, statuses)))
    if explain:
        typer.echo(f"host: {host.accelerator}, {host.cpus} CPUs, {host.system} {host.machine}")
    for kind, decision in decisions:
        typer.echo(f"{kind}: {decision.chosen or 'no service'}")
        for line in decision.explain() if explain else ():
            typer.echo(line)
        for warning in decision.warnings:
            typer.echo(f"warning: {warning}", err=True)
    for kind, decision in decisions:
        if decision.chosen is None:
            raise ServiceUnavailableError(f"no {kind} service can do this: {decision.why_not()}")


@app.command(epilog=EXIT_CODES)
def bootstrap(
    *,
    refresh: Annotated[
        bool, typer.Option("--refresh/--cached", help="Detect anew, whatever is known.")
    ] = True,
    offline: OfflineOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the file instead.")] = False,
    config: ConfigOption = None,
    log_level: LogLevelOption = LogLevel.warning,
) -> None:
    """Detect this host's hardware and write what suits it to out/hardware_cache.json."""
    settings = _settings(offline, None, None, config, log_level)
    found = _bootstrap(settings, refresh=refresh)
    path = settings.work_dir / CACHE_NAME
    if as_json:
        typer.echo(path.read_text(encoding="utf-8"), nl=False)
        return
    for line in hardware_report(found, path):
        typer.echo(line)


def _bootstrap(settings: Settings, *, refresh: bool = False) -> Bootstrap:
    return find_out(
        settings.work_dir,
        os.environ,
        offline=settings.offline,
        bundled=has_bundled_models(settings),
        refresh=refresh,
    )


@app.command(epilog=EXIT_CODES)
def prepare(
    *,
    media: MediaArgument,
    transcribe_only: Annotated[
        bool, typer.Option("--transcribe", help="A transcript in the language of the speech.")
    ] = False,
    translate_too: Annotated[
        bool, typer.Option("--translate", help="Translated subtitles as well.")
    ] = False,
    source: Annotated[
        str | None,
        typer.Option("-s", "--source-language", "--source", help="Language that is spoken."),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option("-t", "--target-language", "--target", help="Languages wanted, with commas."),
    ] = None,
    start_time: StartTimeOption = "",
    end_time: EndTimeOption = "",
    words: WordsOption = False,
    align: AlignOption = False,
    speakers: SpeakersOption = False,
    min_speakers: MinSpeakersOption = 0,
    max_speakers: MaxSpeakersOption = 0,
    glossary: GlossaryOption = None,
    no_vad: NoVadOption = False,
    audio_stream: StreamOption = None,
    formats: FormatOption = DEFAULT_FORMATS,
    speaker_prefix: PrefixOption = False,
    drop_flagged: DropFlaggedOption = False,
    mux: MuxOption = False,
    offline: OfflineOption = False,
    config: ConfigOption = None,
    log_level: LogLevelOption = LogLevel.info,
) -> None:
    """Make a job folder with settings that suit this host; `run-job` runs it."""
    if transcribe_only and (translate_too or target):
        raise UsageError("--transcribe makes no translation; leave it out, or --target-language")
    _check_speakers(min_speakers, max_speakers)
    settings = _settings(offline, None, None, config, log_level)
    found = _bootstrap(settings)
    folder = prepare_job(
        Preparation(
            media=media,
            workflow="translate" if translate_too or target else "transcribe",
            source=_language(source) if source and source != "auto" else None,
            targets=_languages(target) if target else (),
            start=start_time,
            end=end_time,
            audio_stream=audio_stream,
            words=words,
            align=align,
            speakers=speakers,
            min_speakers=min_speakers,
            max_speakers=max_speakers,
            glossary=glossary,
            vad_disabled=no_vad,
            formats=subtitles.formats_of(formats),
            speaker_prefix=speaker_prefix,
            drop_flagged=drop_flagged,
            mux=mux,
            log_level=log_level.value,
        ),
        settings.work_dir,
        found.recommended,
    )
    for note in found.recommended.notes:
        typer.echo(f"note: {note}", err=True)
    for line in job_summary(folder, read_config(folder.env_file)):
        typer.echo(line)


@app.command("run-job", epilog=EXIT_CODES)
def run_job(
    *,
    job_id: Annotated[str, typer.Option("-j", "--job", "--job-id", help="Name of the job.")],
    resume: ResumeOption = False,
    offline: OfflineOption = False,
    asr_endpoint: AsrEndpointOption = None,
    translate_endpoint: TranslateEndpointOption = None,
    config: ConfigOption = None,
    quiet: QuietOption = False,
    log_level: Annotated[
        LogLevel | None, typer.Option("--log-level", help="Else that of the job.")
    ] = None,
) -> None:
    """Run a prepared job with what its own files say."""
    settings = _settings(
        offline, asr_endpoint, translate_endpoint, config, log_level or LogLevel.warning
    )
    folder = find_job(settings.work_dir, job_id)
    job, wanted = read_job(folder), read_config(folder.env_file)
    level = log_level or LogLevel(job.log_level)
    going_on = resume and folder.journal.exists()
    if not going_on and resume and completed(folder, job):
        typer.echo(f"job {job_id} is complete; run it without --resume to do it again")
        return
    with reporter(quiet=quiet or level in {LogLevel.warning, LogLevel.error}) as plain:
        told = JobReporter(plain, folder.log_file)
        try:
            told.say(f"Job {job_id}: {job.workflow} {job.media}")
            check_media(job, told)
            options = dataclasses.replace(
                options_of(folder, job, wanted, detect(), told),
                resume=going_on,
                diarization_model=settings.diarization_model,
                only_asr_endpoints=bool(asr_endpoint),
                only_translate_endpoints=bool(translate_endpoint),
            )
            _finish(_interruptible(transcribe_media(options, settings, told)))
        except VoxrouteError as error:
            told.failed(str(error))
            raise
        finally:
            told.close()


def _language(text: str) -> str:
    try:
        return standard_tag(text)
    except ValueError as error:
        raise UsageError(f"{error}") from error


def _languages(texts: list[str]) -> tuple[str, ...]:
    """The tags, each once, in their order."""
    parts = [part.strip() for text in texts for part in text.split(",") if part.strip()]
    if not parts:
        raise UsageError("name at least one language with -t, such as -t en")
    return tuple(dict.fromkeys(_language(part) for part in parts))


def _settings(
    offline: bool,  # noqa: FBT001 - private
    asr_endpoint: list[str] | None,
    translate_endpoint: list[str] | None,
    config: Path | None,
    level: LogLevel,
) -> Settings:
    settings = load(
        offline=offline,
        asr_endpoints=",".join(asr_endpoint or ()),
        translate_endpoints=",".join(translate_endpoint or ()),
        config=config,
        **credentials.flags,
    )
    set_up_logs(level.value, "console", log_text=settings.log_text)
    if settings.tracing:
        tracing.start("voxroute", __version__)
    return settings


def _form(
    formats: str, settings: Settings, *, speaker_prefix: bool, drop_flagged: bool = False
) -> ResultForm:
    return ResultForm(
        formats=subtitles.formats_of(formats),
        rules=settings.subtitles,
        speaker_prefix=speaker_prefix,
        drop_flagged=drop_flagged,
    )


def _check_speakers(least: int, most: int) -> None:
    if most and least > most:
        raise UsageError(f"--min-speakers {least} is more than --max-speakers {most}")


def _run_job(options: JobOptions, settings: Settings, *, quiet: bool) -> None:
    with reporter(quiet=quiet) as told:
        _finish(_interruptible(transcribe_media(options, settings, told)))


def _run_batch(
    media: list[str], options: JobOptions, settings: Settings, *, at_once: int, quiet: bool
) -> None:
    recordings = find(media)
    with reporter(quiet=quiet) as told:
        outcomes, signal_number = asyncio.run(
            _interrupted(run_batch(recordings, options, settings, told, at_once=at_once))
        )
    try:
        for outcome in outcomes:
            for line in outcome.lines:
                typer.echo(line)
        print_table(("recording", "state", "took", "results"), map(table_row, outcomes))
    except standard_streams.NoReaderError:  # no reason to keep the failures out of the exit code
        standard_streams.silence_output()
    if signal_number:
        raise JobInterruptedError(
            "interrupted; what was finished is in the partial files", signal_number
        )
    code = exit_code(outcomes)
    if code != EXIT_OK:
        failed = sum(outcome.error is not None for outcome in outcomes)
        fail(f"{failed} of {len(outcomes)} recordings failed", code)


def _finish(work: Coroutine[Any, Any, list[str]]) -> None:
    """Runs the work and prints what it returns."""
    lines = asyncio.run(work)
    for line in lines:
        typer.echo(line)


async def _interruptible(work: Coroutine[Any, Any, list[str]]) -> list[str]:
    """The work's result; a signal cancels it. Raises JobInterruptedError."""
    task = asyncio.ensure_future(work)
    caught = _cancel_by_signal(task)
    try:
        return await task
    except asyncio.CancelledError:
        if not caught:
            raise
        raise JobInterruptedError(
            "interrupted; what was finished is in the partial files", caught[0]
        ) from None


async def _interrupted(
    work: Coroutine[Any, Any, list[Outcome]],
) -> tuple[list[Outcome], signal.Signals | None]:
    """What the work returns when a signal cancels it or not, and that signal."""
    task = asyncio.ensure_future(work)
    caught = _cancel_by_signal(task)
    outcomes = await task
    return outcomes, signal.Signals(caught[0]) if caught else None


def _cancel_by_signal(task: "asyncio.Future[Any]") -> list[int]:
    """Lets signals cancel the task; returns where those that came are noted."""
    loop = asyncio.get_running_loop()
    caught: list[int] = []

    def interrupt(number: int) -> None:
        caught.append(number)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
            continue  # nohup
        with contextlib.suppress(NotImplementedError):  # Windows; Ctrl-C still raises there
            loop.add_signal_handler(number, interrupt, number)
    return caught
