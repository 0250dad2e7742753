"""The two-step workflow: bootstrap, prepare and run-job."""

import dataclasses
import os
from pathlib import Path
from typing import Annotated

import typer

from voxroute_orchestrator.cli.options import (
    How,
    LogLevel,
    LogLevelOption,
    MediaArgument,
    ResumeOption,
    asks,
)
from voxroute_orchestrator.cli.terminal.progress import reporter
from voxroute_orchestrator.cli.work import finish, interruptible
from voxroute_orchestrator.errors import EXIT_CODES, UsageError, VoxrouteError
from voxroute_orchestrator.fleet.hardware import detect
from voxroute_orchestrator.names import shown
from voxroute_orchestrator.pipeline.recording import transcribe_media
from voxroute_orchestrator.settings import Settings, has_bundled_models
from voxroute_orchestrator.spec import FLAGS, JobSpec, language_of, languages_of
from voxroute_orchestrator.workflow.bootstrap import CACHE_NAME, Bootstrap
from voxroute_orchestrator.workflow.bootstrap import bootstrap as find_out
from voxroute_orchestrator.workflow.bootstrap import report as hardware_report
from voxroute_orchestrator.workflow.folder import (
    IN_FILE,
    JobReporter,
    check_media,
    completed,
    find_job,
    for_this_place,
    job_of,
    job_summary,
    prepare_job,
    read_config,
    read_job,
)

app = typer.Typer(add_completion=False)


@app.command(epilog=EXIT_CODES)
@asks(how=("offline", "config", "log_level"))
def bootstrap(
    *,
    refresh: Annotated[
        bool, typer.Option("--refresh/--cached", help="Detect anew, whatever is known.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the file instead.")] = False,
    how: How,
) -> None:
    """Detect this host's hardware and write what suits it to out/hardware_cache.json."""
    settings = how.begin()
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
@asks(only=tuple(IN_FILE), but=("translate_model",), how=("offline", "config"))
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
    spec: JobSpec,
    glossary: Annotated[
        Path | None, typer.Option("--glossary", help=FLAGS["glossary"].help)
    ] = None,
    how: How,
    log_level: LogLevelOption = LogLevel.info,
) -> None:
    """Make a job folder with settings that suit this host; `run-job` runs it."""
    if transcribe_only and (translate_too or target):
        raise UsageError("--transcribe makes no translation; leave it out, or --target-language")
    settings = how.begin(log_level)
    found = _bootstrap(settings)
    folder = prepare_job(
        media,
        "translate" if translate_too or target else "transcribe",
        dataclasses.replace(
            spec,
            source_languages=(language_of(source),) if source and source != "auto" else (),
            target_languages=languages_of(target),
        ),
        glossary,
        log_level.value,
        settings.work_dir,
        found.recommended,
    )
    for note in found.recommended.notes:
        typer.echo(f"note: {note}", err=True)
    for line in job_summary(folder, read_config(folder.env_file)):
        typer.echo(line)


@app.command("run-job", epilog=EXIT_CODES)
@asks(how=("offline", "asr_endpoint", "translate_endpoint", "config", "quiet"))
def run_job(
    *,
    job_id: Annotated[str, typer.Option("-j", "--job", "--job-id", help="Name of the job.")],
    resume: ResumeOption = False,
    how: How,
    log_level: Annotated[
        LogLevel | None, typer.Option("--log-level", help="Else that of the job.")
    ] = None,
) -> None:
    """Run a prepared job with what its own files say."""
    settings = how.begin(log_level)
    folder = find_job(settings.work_dir, job_id)
    job, wanted = read_job(folder), read_config(folder.env_file)
    level = log_level or LogLevel(job.log_level)
    going_on = resume and folder.journal.exists()
    if not going_on and resume and completed(folder, job):
        typer.echo(f"job {job_id} is complete; run it without --resume to do it again")
        return
    with reporter(quiet=how.quiet or level in {LogLevel.warning, LogLevel.error}) as plain:
        told = JobReporter(plain, folder.log_file)
        try:
            told.say(f"Job {job_id}: {job.workflow} {shown(job.media)}")
            check_media(job, told)
            run = dataclasses.replace(
                job_of(folder, job, wanted, detect(), told),
                resume=going_on,
                only_asr_endpoints=bool(how.asr_endpoint),
                only_translate_endpoints=bool(how.translate_endpoint),
            )
            spec = dataclasses.replace(run.spec, diarization_model=settings.diarization_model)
            run = for_this_place(dataclasses.replace(run, spec=spec), settings, folder, told)
            finish(interruptible(transcribe_media(run, settings, told)))
        except VoxrouteError as error:
            told.failed(str(error))
            raise
        finally:
            told.close()
