"""The options that several commands of `voxroute` have."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from voxroute_orchestrator.subtitles import formats as subtitles

DEFAULT_FORMATS = ",".join(subtitles.DEFAULT_FORMATS)


class LogLevel(StrEnum):
    """How much the command writes about its own working."""

    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


class Backend(StrEnum):
    """The engine of a speech service."""

    auto = "auto"
    mlx = "mlx"
    whisperx = "whisperx"


class DeviceChoice(StrEnum):
    """The hardware that a service runs on."""

    auto = "auto"
    mps = "mps"
    cuda = "cuda"
    cpu = "cpu"


MediaArguments = Annotated[
    list[str],
    typer.Argument(
        metavar="MEDIA...",
        help="The recording: any file with audio. Several, folders, or quoted patterns are done"
        " one after the other.",
    ),
]
HlsFolderOption = Annotated[
    bool,
    typer.Option(
        "--hls-folder", help="Let playlists (m3u8) open the files in their folder and below."
    ),
]
MediaArgument = Annotated[Path, typer.Argument(help="The recording: any file with audio.")]
SourceOption = Annotated[
    str | None,
    typer.Option(
        "-s",
        "--source",
        help="Language that is spoken (hi, en, ...); else detected. Several, hi,en, where it"
        " changes from sentence to sentence.",
    ),
]
TargetOption = Annotated[
    list[str], typer.Option("-t", "--target", help="Languages wanted, with commas: en,ta.")
]
MaybeTargetOption = Annotated[
    list[str] | None, typer.Option("-t", "--target", help="Languages wanted, with commas: en,ta.")
]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Go on where an interrupted run has stopped.")
]
NoVadOption = Annotated[
    bool,
    typer.Option(
        "--no-vad", help="Transcribe everything, also what does not sound like speech; slower."
    ),
]
OutputOption = Annotated[Path, typer.Option("-o", "--output", help="Folder of the results.")]
ModelOption = Annotated[
    str, typer.Option("--model", help="Speech model: a name, a hub id, or a local directory.")
]
TranslateModelOption = Annotated[
    str, typer.Option("--translate-model", help="Translation model: a hub id or a directory.")
]
WordsOption = Annotated[bool, typer.Option("--words", help="Give each word its time.")]
AlignOption = Annotated[
    bool,
    typer.Option(
        "--align",
        help="Have a service time the words of the finished transcript: WhisperX beside MLX.",
    ),
]
SpeakersOption = Annotated[
    bool, typer.Option("--speakers", help="Tell apart who speaks, where a service can.")
]
MinSpeakersOption = Annotated[
    int, typer.Option("--min-speakers", min=0, help="Speakers there are at least; 0: not known.")
]
MaxSpeakersOption = Annotated[
    int, typer.Option("--max-speakers", min=0, help="Speakers there are at most; 0: not known.")
]
DiarizationModelOption = Annotated[
    str,
    typer.Option(
        "--diarization-model",
        help="Model for --speakers of a service that is started here: a hub id or a directory.",
    ),
]
DropFlaggedOption = Annotated[
    bool,
    typer.Option(
        "--drop-flagged", help="Leave doubtful text out of the subtitles; the transcript keeps it."
    ),
]
StreamOption = Annotated[
    int | None,
    typer.Option(
        "--audio-stream", min=0, help="Audio stream, counted from 0; else by its language."
    ),
]
ChannelOption = Annotated[
    int | None,
    typer.Option(
        "--channel", min=0, help="Channel of the audio, counted from 0; else what holds the voice."
    ),
]
StrictOption = Annotated[
    bool, typer.Option("--strict", help="Fail where an option cannot be honoured.")
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace files of others.")]
GlossaryOption = Annotated[
    Path | None,
    typer.Option("--glossary", help="Terms with their translation: a CSV file, source,target."),
]
FormatOption = Annotated[
    str,
    typer.Option("--format", help="Kinds of subtitles, with commas: srt,vtt,ass,ttml,json."),
]
PrefixOption = Annotated[
    bool, typer.Option("--speaker-prefix", help="Name the speakers in SRT, as text.")
]
MuxOption = Annotated[
    bool, typer.Option("--mux", help="Write a copy of the recording with the subtitles in it.")
]
StartTimeOption = Annotated[
    str, typer.Option("--start-time", help="Begin there: seconds, M:SS or H:MM:SS.")
]
EndTimeOption = Annotated[str, typer.Option("--end-time", help="End there.")]
OfflineOption = Annotated[
    bool, typer.Option("--offline", help="No downloads; bundled models unless one is named.")
]
AsrEndpointOption = Annotated[
    list[str] | None,
    typer.Option(
        "--asr-endpoint", "--endpoint", help="A running speech service, HOST:PORT or unix:/PATH."
    ),
]
TranslateEndpointOption = Annotated[
    list[str] | None,
    typer.Option("--translate-endpoint", help="A running translation service."),
]
BackendOption = Annotated[
    Backend, typer.Option("--backend", help="Engine that recognises speech; else by the host.")
]
DeviceOption = Annotated[
    DeviceChoice, typer.Option("--device", help="Hardware that recognises speech; else the best.")
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Settings file; else voxroute.yaml.")
]
QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="Only warnings and errors.")]
LogLevelOption = Annotated[
    LogLevel, typer.Option("--log-level", help="Log of the command itself, to standard error.")
]
