"""`voxroute tracks`: what audio a recording has, and which of it would be taken."""

from pathlib import Path

import typer

from voxroute_orchestrator.cli.options import MediaArgument, asks
from voxroute_orchestrator.cli.terminal.tables import print_table
from voxroute_orchestrator.errors import EXIT_CODES
from voxroute_orchestrator.media import Source, probe, tracks_of
from voxroute_orchestrator.spec import JobSpec
from voxroute_serving.audio.tracks import Track
from voxroute_serving.telemetry.logs import set_up_logs

_COLUMNS = ("--audio-stream", "language", "channels", "codec", "kind", "title", "")

app = typer.Typer(add_completion=False)


@app.command("tracks", epilog=EXIT_CODES)
@asks(only=("source_languages", "hls_folder"))
def tracks_command(*, media: MediaArgument, spec: JobSpec) -> None:
    """List the audio tracks of a recording, and tell which one would be taken."""
    set_up_logs("error", "console")
    recording = Source(Path(media), hls_folder=spec.hls_folder)
    taken = probe(recording, language=next(iter(spec.source_languages), None)).audio_stream
    print_table(_COLUMNS, [_row(track, taken) for track in tracks_of(recording)])


def _row(track: Track, taken: int) -> tuple[str, ...]:
    is_taken = "taken" if track.index == taken else ""
    kind = ", ".join(track.kinds) or "-"
    about = (track.language or "-", track.layout or "-", track.codec or "-", kind)
    return str(track.index), *about, track.title or "-", is_taken
