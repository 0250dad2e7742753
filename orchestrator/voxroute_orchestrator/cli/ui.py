"""`voxroute ui`: all that the web page needs on this host, and a browser that shows it."""

import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import webbrowser
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from voxroute_orchestrator.cli.options import How, asks
from voxroute_orchestrator.errors import EXIT_CODES, LocalServiceError, UsageError
from voxroute_orchestrator.fleet import warm as warm_services

_PORT = 8000
_NAMES = "127.0.0.1,localhost"  # a page that gives its own name this address does not get in
_STOP_S = 30.0
_LOOK_S = 0.2

app = typer.Typer(add_completion=False)


@app.command(
    "ui",
    epilog="It runs on this computer alone: a job service and the gateway; speech and translation"
    " are started by the first job, unless they are named or warm. Ctrl-C ends it, and all that it"
    f" has started. {EXIT_CODES}",
)
@asks(how=("offline", "asr_endpoint", "translate_endpoint", "config", "log_level"))
def ui(
    *,
    port: Annotated[
        int | None,
        typer.Option("--port", min=0, max=65535, help="Port of the page; else 8000 or a free one."),
    ] = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Whether a browser is opened.")
    ] = True,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Folder of the jobs, as of `voxroute serve`.")
    ] = None,
    model: Annotated[str, typer.Option("--model", help="Speech model.")] = "",
    translate_model: Annotated[
        str, typer.Option("--translate-model", help="Translation model.")
    ] = "",
    how: How,
) -> None:
    """Show the web page: films to subtitles, to correct and to take along."""
    if importlib.util.find_spec("voxroute_gateway") is None:
        raise UsageError(
            "the gateway is not installed here; `pip install voxroute-gateway` adds it"
        )
    settings = how.settings()
    shared = ["--log-level", how.log_level.value, "--log-format", "console", "--metrics-listen", ""]
    for flag, values in (
        ("--asr-endpoint", how.asr_endpoint or ()),
        ("--translate-endpoint", how.translate_endpoint or ()),
        ("--config", [str(how.config)] if how.config is not None else ()),
        ("--model", [model] if model else ()),
        ("--translate-model", [translate_model] if translate_model else ()),
    ):
        if values:
            shared += [flag, ",".join(values)]
    shared += ["--offline"] if how.offline else []
    with _interruptible(), _ended_after(), contextlib.ExitStack() as stack:
        jobs = settings.jobs_endpoint
        running: list[subprocess.Popen[str]] = []
        if not jobs:
            folder = ["--data-dir", str(data_dir)] if data_dir is not None else []
            arguments = ["serve", "--listen", "127.0.0.1:0", *folder, *shared]
            jobs = stack.enter_context(
                _child("the job service", "voxroute_orchestrator", arguments, running)
            )
        listen = f"127.0.0.1:{_free(_PORT) if port is None else port}"
        arguments = [
            "--listen",
            listen,
            "--jobs-endpoint",
            jobs,
            "--allowed-hosts",
            _NAMES,
            *shared,
        ]
        address = stack.enter_context(_child("the gateway", "voxroute_gateway", arguments, running))
        url = f"http://{address}/"
        typer.echo(f"voxroute is at {url}; Ctrl-C ends it")
        if browser and _has_screen():
            # some browsers keep who opens them waiting
            threading.Thread(target=webbrowser.open, args=[url], daemon=True).start()
        while all(child.poll() is None for child in running):
            time.sleep(_LOOK_S)
        raise LocalServiceError("a process of the page has ended; what it said stands above")


@contextlib.contextmanager
def _interruptible() -> Generator[None]:
    """Ctrl-C and SIGTERM end the block, and that is no failure."""

    def leave(number: int, frame: object) -> None:
        del number, frame
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
    with contextlib.suppress(KeyboardInterrupt):
        yield


@contextlib.contextmanager
def _ended_after() -> Generator[None]:
    """Ends the local services that have begun within the block and that nobody else uses."""
    before = {one.record.pid for one in warm_services.running()}
    try:
        yield
    finally:
        for one in warm_services.running():
            if one.record.pid not in before:
                warm_services.stop(one, force=False)


@contextlib.contextmanager
def _child(
    name: str, module: str, arguments: Sequence[str], running: "list[subprocess.Popen[str]]"
) -> Generator[str]:
    """A server as a child, which ends with the block and with this process; where it listens.

    Raises LocalServiceError where it does not come up; why, it says itself.
    """
    child = subprocess.Popen(  # noqa: S603 - our own modules
        [
            sys.executable, "-m", "voxroute_orchestrator.fleet.child", str(os.getpid()),
            "", "", "", module, *arguments,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for this process, which ends them one after the other
    )  # fmt: skip
    assert child.stdout is not None  # noqa: S101 - it is a pipe
    assert child.stdin is not None  # noqa: S101 - likewise
    try:
        line = child.stdout.readline()
        if not line:
            raise LocalServiceError(f"{name} did not start; what it said stands above")
        running.append(child)
        yield str(json.loads(line)["addresses"][0])
    finally:
        child.terminate()
        try:
            child.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        child.stdin.close()
        child.stdout.close()


def _free(port: int) -> int:
    """The port, or 0 for any where another process has it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return 0
    return port


def _has_screen() -> bool:
    """Whether a browser would have a window: elsewhere it would take over the terminal."""
    if sys.platform != "linux":
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
