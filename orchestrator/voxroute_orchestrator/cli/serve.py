"""`voxroute serve`: the job service."""

import typer

from voxroute_orchestrator.jobs.service import serve

app = typer.Typer(add_completion=False)


@app.command(
    "serve",
    context_settings={
        # the flags are those of the settings; their own parser tells them, --help included
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "help_option_names": [],
    },
)
def serve_command(context: typer.Context) -> None:
    """Serve jobs over gRPC; `voxroute serve --help` tells the flags."""
    serve(context.args)
