"""The commands that do work, or tell who would: run, transcribe, translate, route."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from voxroute_orchestrator.cli.options import (
    How,
    MediaArgument,
    MediaArguments,
    OutputOption,
    OverwriteOption,
    ResumeOption,
    asks,
)
from voxroute_orchestrator.cli.terminal.progress import reporter
from voxroute_orchestrator.cli.work import finish, interruptible
from voxroute_orchestrator.errors import EXIT_CODES, ServiceUnavailableError
from voxroute_orchestrator.files import claimed
from voxroute_orchestrator.fleet.hardware import detect
from voxroute_orchestrator.fleet.needs import Needs
from voxroute_orchestrator.fleet.survey import speech_decision, survey, translation_decision
from voxroute_orchestrator.job import Job
from voxroute_orchestrator.pipeline.batch import is_batch
from voxroute_orchestrator.pipeline.recording import transcribe_media
from voxroute_orchestrator.pipeline.subtitle_file import FileJob, translate_subtitles
from voxroute_orchestrator.settings import Settings
from voxroute_orchestrator.spec import JobSpec, language_of
from voxroute_orchestrator.subtitles import formats as subtitles
from voxroute_orchestrator.subtitles.results import (
    prepare_translations,
    subtitle_names,
    tell_shortened,
)

app = typer.Typer(add_completion=False)


@app.command(epilog=EXIT_CODES)
@asks(but=("priority",), required=("target_languages",))
def run(
    *,
    media: MediaArguments,
    spec: JobSpec,
    output: OutputOption = Path(),
    overwrite: OverwriteOption = False,
    resume: ResumeOption = False,
    jobs: Annotated[
        int, typer.Option("--jobs", min=1, help="Of several recordings, so many at once.")
    ] = 1,
    how: How,
) -> None:
    """Turn recordings into transcripts and translated subtitles."""
    settings = how.begin()
    job = Job(
        spec=_completed(spec, settings),
        media=Path(media[0]),
        folder=output,
        overwrite=overwrite,
        resume=resume,
        only_asr_endpoints=bool(how.asr_endpoint),
        only_translate_endpoints=bool(how.translate_endpoint),
    )
    if is_batch(media):
        from voxroute_orchestrator.cli.batch import run_recordings  # noqa: PLC0415 - most are one

        run_recordings(media, job, settings, at_once=jobs, quiet=how.quiet)
    else:
        _run_job(job, settings, quiet=how.quiet)


@app.command(epilog=EXIT_CODES)
@asks(
    but=("target_languages", "translate_model", "glossary", "priority"),
    how=("offline", "asr_endpoint", "config", "quiet", "log_level"),
)
def transcribe(
    *,
    media: MediaArgument,
    spec: JobSpec,
    output: OutputOption = Path(),
    overwrite: OverwriteOption = False,
    resume: ResumeOption = False,
    how: How,
) -> None:
    """Turn a recording into a transcript and subtitles in its own language."""
    settings = how.begin()
    job = Job(
        spec=_completed(spec, settings),
        media=media,
        folder=output,
        overwrite=overwrite,
        resume=resume,
        only_asr_endpoints=bool(how.asr_endpoint),
    )
    _run_job(job, settings, quiet=how.quiet)


@app.command(epilog=EXIT_CODES)
@asks(
    only=(
        "target_languages",
        "translate_model",
        "glossary",
        "strict",
        "formats",
        "speaker_prefix",
    ),
    required=("target_languages",),
    how=("offline", "translate_endpoint", "config", "quiet", "log_level"),
)
def translate(
    *,
    subtitle_file: Annotated[
        Path, typer.Argument(help="Subtitles: SRT, WebVTT, TTML, ASS, SBV, MicroDVD, ...")
    ],
    source: Annotated[str, typer.Option("-s", "--source", help="Language of the file.")],
    spec: JobSpec,
    output: OutputOption = Path(),
    encoding: Annotated[
        str | None, typer.Option("--encoding", help="Encoding of the file; else UTF-8 or UTF-16.")
    ] = None,
    overwrite: OverwriteOption = False,
    how: How,
) -> None:
    """Translate a subtitle file; times stay as they are."""
    language = language_of(source)
    settings = how.begin()
    mended: list[str] = []
    cues = subtitles.read(subtitle_file, encoding=encoding, tell=mended.append)
    title = subtitle_file.stem
    if Path(title).suffix.lower() == f".{source}".lower():
        title = Path(title).stem
    spec = replace(spec, source_languages=(language,))
    job = FileJob(
        title=title,
        cues=cues,
        source=language,
        spec=spec,
        folder=output,
        rules=settings.subtitles,
    )
    names = subtitle_names(title, spec.target_languages, spec.formats)
    with claimed(output, title), reporter(quiet=how.quiet) as told:
        prepare_translations(output, title, names, overwrite=overwrite)
        tell_shortened(title, names, told)
        for sentence in mended:
            told.warn(sentence)
        finish(interruptible(translate_subtitles(job, settings, told)))


@app.command(epilog=EXIT_CODES)
@asks(
    only=(
        "source_languages",
        "target_languages",
        "asr_model",
        "translate_model",
        "words",
        "strict",
        "backend",
        "device",
    ),
    how=("asr_endpoint", "translate_endpoint", "config", "log_level"),
)
def route(
    *,
    spec: JobSpec,
    explain: Annotated[
        bool, typer.Option("--explain", help="Every candidate, with its place and the reason.")
    ] = False,
    how: How,
) -> None:
    """Show which service would do a job, without doing it."""
    settings = how.begin()
    translates = bool(spec.target_languages)
    needs = Needs(
        spec,
        speech=True,
        translation=translates,
        only_asr_endpoints=bool(how.asr_endpoint),
        only_translate_endpoints=bool(how.translate_endpoint),
    )
    host, statuses = detect(), asyncio.run(survey(settings))
    decisions = [("speech", speech_decision(settings, needs, host, statuses))]
    if translates:
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


def _completed(spec: JobSpec, settings: Settings) -> JobSpec:
    """The spec with what the settings say where nothing is asked for."""
    return replace(spec, diarization_model=spec.diarization_model or settings.diarization_model)


def _run_job(job: Job, settings: Settings, *, quiet: bool) -> None:
    with reporter(quiet=quiet) as told:
        finish(interruptible(transcribe_media(job, settings, told)))
