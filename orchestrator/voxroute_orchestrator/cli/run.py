"""The commands that do work, or tell who would: run, transcribe, translate, route."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from voxroute_orchestrator.cli.options import (
    DEFAULT_FORMATS,
    AlignOption,
    AsrEndpointOption,
    Backend,
    BackendOption,
    ChannelOption,
    ConfigOption,
    DeviceChoice,
    DeviceOption,
    DiarizationModelOption,
    DropFlaggedOption,
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
    StreamOption,
    StrictOption,
    TargetOption,
    TranslateEndpointOption,
    TranslateModelOption,
    WordsOption,
)
from voxroute_orchestrator.cli.terminal.progress import reporter
from voxroute_orchestrator.cli.work import (
    check_speakers,
    finish,
    form_of,
    interruptible,
    language_of,
    languages_of,
    settings_of,
)
from voxroute_orchestrator.errors import EXIT_CODES, ServiceUnavailableError, UsageError
from voxroute_orchestrator.files import claimed
from voxroute_orchestrator.fleet.hardware import detect
from voxroute_orchestrator.fleet.needs import Needs
from voxroute_orchestrator.fleet.survey import speech_decision, survey, translation_decision
from voxroute_orchestrator.glossary import read as read_glossary
from voxroute_orchestrator.job import JobOptions
from voxroute_orchestrator.names import is_file
from voxroute_orchestrator.pipeline.batch import is_batch
from voxroute_orchestrator.pipeline.recording import transcribe_media
from voxroute_orchestrator.pipeline.subtitle_file import FileJob, translate_subtitles
from voxroute_orchestrator.settings import Settings
from voxroute_orchestrator.subtitles import formats as subtitles
from voxroute_orchestrator.subtitles.cues import Cue
from voxroute_orchestrator.subtitles.results import (
    prepare_translations,
    subtitle_names,
    tell_shortened,
)

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
    channel: ChannelOption = None,
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
    check_speakers(min_speakers, max_speakers)
    spoken = languages_of([source]) if source else ()
    settings = settings_of(offline, asr_endpoint, translate_endpoint, config, log_level)
    options = JobOptions(
        media=Path(media[0]),
        hls_folder=hls_folder,
        source=spoken[0] if len(spoken) == 1 else None,
        allowed_languages=spoken if len(spoken) > 1 else (),
        targets=languages_of(target),
        glossary=read_glossary(glossary) if glossary else (),
        folder=output,
        model=model,
        translate_model=translate_model,
        audio_stream=audio_stream,
        audio_channel=channel,
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
        form=form_of(formats, settings, speaker_prefix=speaker_prefix, drop_flagged=drop_flagged),
        mux=mux,
        backend=backend.value,
        device=device.value,
        only_asr_endpoints=bool(asr_endpoint),
        only_translate_endpoints=bool(translate_endpoint),
    )
    if is_batch(media):
        from voxroute_orchestrator.cli.batch import run_recordings  # noqa: PLC0415 - most are one

        run_recordings(media, options, settings, at_once=jobs, quiet=quiet)
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
    channel: ChannelOption = None,
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
    check_speakers(min_speakers, max_speakers)
    spoken = languages_of([source]) if source else ()
    settings = settings_of(offline, asr_endpoint, None, config, log_level)
    form = form_of(formats, settings, speaker_prefix=speaker_prefix, drop_flagged=drop_flagged)
    _run_job(
        JobOptions(
            media=media,
            hls_folder=hls_folder,
            source=spoken[0] if len(spoken) == 1 else None,
            allowed_languages=spoken if len(spoken) > 1 else (),
            folder=output,
            model=model,
            audio_stream=audio_stream,
            audio_channel=channel,
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
            form=form,
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
    subtitle_file: Annotated[
        Path, typer.Argument(help="Subtitles: SRT, WebVTT, TTML, ASS, SBV, MicroDVD, ...")
    ],
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
    language, targets = language_of(source), languages_of(target)
    settings = settings_of(offline, None, translate_endpoint, config, log_level)
    mended: list[str] = []
    cues = read_cues(subtitle_file, encoding, mended.append)
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
        form=form_of(formats, settings, speaker_prefix=speaker_prefix),
    )
    names = subtitle_names(title, targets, job.form.formats)
    with claimed(output, title), reporter(quiet=quiet) as told:
        prepare_translations(output, title, names, overwrite=overwrite)
        tell_shortened(title, names, told)
        for sentence in mended:
            told.warn(sentence)
        finish(interruptible(translate_subtitles(job, settings, told)))


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
    settings = settings_of(False, asr_endpoint, translate_endpoint, config, log_level)
    needs = Needs(
        speech=True,
        translation=bool(target),
        language=language_of(source) if source else None,
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


def read_cues(
    path: Path, encoding: str | None, tell: Callable[[str], None] = lambda _: None
) -> list[Cue]:
    """The cues of a subtitle file; `tell` takes what had to be mended.

    Raises UsageError, which names the flag that may help.
    """
    try:
        return subtitles.read(path, encoding=encoding, tell=tell)
    except UsageError as error:
        if "--encoding" in str(error) or not is_file(path):
            raise
        raise UsageError(
            f"{error}. If it is a subtitle file, name its encoding with --encoding (utf-16-le,"
            " cp1252, ...)"
        ) from error


def _run_job(options: JobOptions, settings: Settings, *, quiet: bool) -> None:
    with reporter(quiet=quiet) as told:
        finish(interruptible(transcribe_media(options, settings, told)))
