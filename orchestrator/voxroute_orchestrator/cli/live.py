"""`voxroute live`: captions of what is spoken now, in the terminal and in files."""

import contextlib
import sys
import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from voxroute_orchestrator.cli.options import How, OverwriteOption, asks
from voxroute_orchestrator.cli.terminal.captions import LineCaptions
from voxroute_orchestrator.cli.terminal.progress import LineReporter
from voxroute_orchestrator.cli.work import finish, interruptible
from voxroute_orchestrator.errors import EXIT_CODES, UsageError
from voxroute_orchestrator.live.files import SubtitleFiles, check_formats
from voxroute_orchestrator.live.run import Asked, LiveRun
from voxroute_orchestrator.live.sources import MediaSource, PipeSource
from voxroute_orchestrator.live.tape import Source
from voxroute_orchestrator.media import Source as Recording
from voxroute_orchestrator.media import probe
from voxroute_orchestrator.spec import JobSpec

_LEAST_INTERVAL_S = 0.2

app = typer.Typer(add_completion=False)


def _interval(seconds: float | None) -> float | None:
    if seconds is not None and 0 < seconds < _LEAST_INTERVAL_S:
        raise typer.BadParameter(f"must be 0, or from {_LEAST_INTERVAL_S:g} to 10.")
    return seconds


@app.command(
    "live",
    epilog=f"Ctrl-C ends it once all is told that was said, twice at once. {EXIT_CODES}",
)
@asks(
    only=(
        "source_languages",
        "target_languages",
        "asr_model",
        "translate_model",
        "glossary",
        "prompt",
        "audio_stream",
        "audio_channel",
        "hls_folder",
        "strict",
        "formats",
        "backend",
        "device",
    )
)
def live_command(
    *,
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="SOURCE",
            help="A media file, which is played at its own pace; the URL of a stream; - for raw"
            " samples (16 kHz mono s16le) from standard input. None: the microphone.",
        ),
    ] = None,
    spec: JobSpec,
    microphone: Annotated[
        str | None,
        typer.Option("--microphone", metavar="DEVICE", help="Another microphone: name or number."),
    ] = None,
    as_fast_as_possible: Annotated[
        bool, typer.Option("--as-fast-as-possible", help="Do not keep a recording's pace.")
    ] = False,
    update_interval: Annotated[
        float | None,
        typer.Option(
            "--update-interval",
            min=0,
            max=10,
            callback=_interval,
            help="Seconds between updates of the text while somebody speaks, from 0.2; 0 for none."
            " Else 1.",
        ),
    ] = None,
    silence: Annotated[
        float | None,
        typer.Option(
            "--silence", min=0.1, max=5, help="Seconds of a pause that end an utterance. Else 0.6."
        ),
    ] = None,
    refine: Annotated[
        bool,
        typer.Option("--refine", help="Decode each utterance once more at its end, with care."),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder for subtitles, which grow as it goes on."),
    ] = None,
    overwrite: OverwriteOption = False,
    how: How,
) -> None:
    """Caption what is spoken now: a microphone, a stream, standard input."""
    settings = how.begin()
    spec = replace(spec, target_languages=tuple(spec.to_translate))
    with _display(spec.target_languages, quiet=how.quiet) as display:
        sound = _source(source, microphone, spec, paced=not as_fast_as_possible)
        files = None
        if output is not None:
            check_formats(spec.formats)
            files = SubtitleFiles(
                output, sound.title, spec.formats, settings.subtitles, overwrite=overwrite
            )
        asked = Asked(
            spec,
            update_interval_s=update_interval,
            silence_s=silence,
            refine=refine,
            tentative=display.rewrites,
            only_asr_endpoints=bool(how.asr_endpoint),
            only_translate_endpoints=bool(how.translate_endpoint),
        )
        live = LiveRun(sound, asked, settings, display, files)

        def end() -> bool:
            if live.begun:
                display.say("finishing; Ctrl-C once more ends it at once")
                live.finish()
            return live.begun

        async def work() -> list[str]:
            await live.run()
            return []

        finish(interruptible(work(), end, "files have what was told before"))
        for path in files.paths if files is not None else ():
            display.say(f"wrote {path}")


def _source(source: str | None, microphone: str | None, spec: JobSpec, *, paced: bool) -> Source:
    """Where the sound comes from. Raises UsageError, MediaError."""
    if microphone is not None and source is not None:
        raise UsageError("name a source or --microphone, not both")
    if source is None:
        from voxroute_orchestrator.live.microphone import MicrophoneSource  # noqa: PLC0415 - of its own

        return _no_file(MicrophoneSource(microphone or ""), spec)
    if source == "-":
        return _no_file(PipeSource(0), spec)
    from voxroute_orchestrator.live.urls import UrlSource, is_url  # noqa: PLC0415 - likewise

    if is_url(source):
        return _no_file(UrlSource(source, paced=paced), spec)
    media = probe(
        Recording(Path(source), hls_folder=spec.hls_folder),
        stream=spec.audio_stream,
        language=next(iter(spec.source_languages), None),
        channel=spec.audio_channel,
    )
    return MediaSource(media, paced=paced)


def _no_file(source: Source, spec: JobSpec) -> Source:
    """The source, its title one that no other run has. Raises UsageError for options of files."""
    asked = {
        "--audio-stream": spec.audio_stream is not None,
        "--channel": spec.audio_channel is not None,
        "--hls-folder": spec.hls_folder,
    }
    if given := [name for name, there in asked.items() if there]:
        raise UsageError(f"{', '.join(given)}: only a media file has a use for it; leave it out")
    source.title = f"{source.title}-{time.strftime('%Y%m%d-%H%M%S')}"
    return source


@contextlib.contextmanager
def _display(targets: tuple[str, ...], *, quiet: bool) -> Generator[LineCaptions]:
    """Captions for where standard output goes."""
    told = LineReporter(sys.stderr, quiet=quiet)
    if not sys.stdout.isatty():
        yield LineCaptions(targets, told)
        return
    from voxroute_orchestrator.cli.terminal.live_captions import Console, TerminalCaptions  # noqa: PLC0415 - rich takes a tenth of a second

    with TerminalCaptions(targets, told, Console(), quiet=quiet) as captions:
        yield captions
