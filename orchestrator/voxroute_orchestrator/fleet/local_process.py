"""A service that runs on this host as a process of its own, reached by a unix socket."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import platformdirs

from voxroute_orchestrator.client.connection import CallPolicy, Endpoint, connect, is_serving
from voxroute_orchestrator.errors import LocalServiceError
from voxroute_orchestrator.fleet import spare
from voxroute_orchestrator.reporter import Waits

STOP_S = 10.0  # between SIGTERM and SIGKILL; longer than any window on any device
POLL_S = 0.05

_LOG_LINES = 8
_LOG_BYTES = 8192
_MAX_RESTARTS = 2


@dataclass(frozen=True, slots=True)
class LocalSpec:
    """A service to start: what to call it, its module, its flags."""

    name: str
    """For people: "speech service"."""
    module: str
    arguments: tuple[str, ...] = ()
    model: str = ""
    """For people: what it loads when it starts; "" where the service chooses."""

    def __str__(self) -> str:
        return f"the local {self.name}"


@dataclass(frozen=True, slots=True)
class Context:
    """What the services of a command have in common."""

    environment: Mapping[str, str]
    startup_timeout_s: float
    tell: Callable[[str], None]
    """Takes what a person should look at."""
    waits: Waits


class LocalService:
    """A service that runs as a child of this process and ends with it."""

    def __init__(self, spec: LocalSpec, folder: Path, context: Context) -> None:
        self.spec = spec
        self.folder = folder
        self.context = context
        self.process: subprocess.Popen[bytes] | None = None
        self.mark = ""
        """Stands in the command line of the process alone, of one that may stay."""
        self._recovering = asyncio.Lock()
        self._restarts = 0
        self._log_start = 0  # where in the log the present process begins, bytes

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.folder / f"{self.spec.module}.sock"

    @property
    def log(self) -> Path:
        """What it writes."""
        return self.folder / f"{self.spec.module}.log"

    def endpoint(self) -> Endpoint:
        """How clients reach it; a client that lost it has it started again."""
        return Endpoint(self.spec.name, f"unix:{self.socket}", self.recover)

    async def start(self) -> None:
        """Returns once it serves. Raises LocalServiceError with what it wrote."""
        self.launch()
        await self.wait_until_serving()

    def launch(self, *, record: str = "", idle_s: str = "", folder: Path | None = None) -> None:
        """Starts the process, in a folder. `record` and `idle_s` are for a child that may stay."""
        self.socket.unlink(missing_ok=True)
        arguments = [
            str(os.getpid()),
            record,
            idle_s,
            str(self.log),
            self.spec.module,
            "--listen",
            f"unix:{self.socket}",
            "--metrics-listen",
            "",
            "--log-format",
            "console",
            *self.spec.arguments,
        ]
        self.mark = record
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            started = spare.take(arguments, self.context.environment, folder)
            if started is not None:
                self.process, self.mark = started.process, started.mark
                return
            self.process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", "voxroute_orchestrator.fleet.child", *arguments],
                stdin=subprocess.PIPE,  # ends when this process does; see child.py
                stdout=log,
                stderr=log,
                env=dict(self.context.environment),
                cwd=folder,
                start_new_session=True,  # Ctrl-C in the terminal is for the command alone
            )

    async def wait_until_serving(self) -> None:
        """Returns once it serves. Raises LocalServiceError."""
        until = time.monotonic() + self.context.startup_timeout_s
        with contextlib.ExitStack() as shown:
            shown.enter_context(self.context.waits(f"starting {self.spec}"))
            # a channel that meets no socket comes back ever more seldom
            while not self.socket.exists():
                self._check_start(until)
                await asyncio.sleep(POLL_S)
            loads = False
            async with connect(self.endpoint(), CallPolicy()) as channel:
                while True:
                    with contextlib.suppress(grpc.aio.AioRpcError):
                        if await is_serving(channel):
                            return
                        if not loads:
                            loads = True
                            shown.close()
                            shown.enter_context(self.context.waits(f"loading {self._loaded()}"))
                    self._check_start(until)
                    await asyncio.sleep(POLL_S)

    def _loaded(self) -> str:
        return self.spec.model or f"the model of {self.spec}"

    def _check_start(self, until: float) -> None:
        """Raises LocalServiceError where the start has failed or takes too long."""
        if self.process is not None and self.process.poll() is not None:
            raise LocalServiceError(self.epitaph("ended while it was starting"))
        if time.monotonic() >= until:
            raise LocalServiceError(
                self.epitaph(
                    f"was not ready after {self.context.startup_timeout_s:.0f} s"
                    " (VOXROUTE_STARTUP_TIMEOUT_S sets how long that may take)"
                )
            )

    def epitaph(self, what: str) -> str:
        """What happened, the exit status, and the end of the log, which is kept."""
        status = self.process.poll() if self.process is not None else None
        if status is None:
            code = ""
        elif status < 0:
            code = f" by signal {signal.Signals(-status).name}"
        else:
            code = f" with exit code {status}"
        lines = self._log_end()
        kept = self.kept_log()
        said = "\n".join(f"    {line}" for line in lines) or "    (it wrote nothing)"
        where = f"; all it wrote is in {kept}" if kept else ""
        return f"{self.spec} ({self.spec.module}) {what}{code}{where}:\n{said}"

    def _log_end(self) -> list[str]:
        try:
            with self.log.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                start = self._log_start if self._log_start <= size else 0  # it may have been cut
                file.seek(max(start, size - _LOG_BYTES))
                text = file.read().decode(errors="replace")
        except OSError:
            return []
        return [line.rstrip()[:300] for line in text.splitlines() if line.strip()][-_LOG_LINES:]

    def kept_log(self) -> Path | None:
        """The log, or a copy of it, where it outlives this process; None where that fails."""
        with contextlib.suppress(OSError):
            folder = platformdirs.user_log_path("voxroute", ensure_exists=True)
            return Path(shutil.copy(self.log, folder / f"{self.spec.module}.log"))
        return None

    async def recover(self) -> None:
        """Starts it again if it has died. Raises LocalServiceError after too many deaths."""
        async with self._recovering:
            if self.process is None or self.process.poll() is None:
                return
            self.count_death()
            await self.start()

    def count_death(self) -> None:
        """Tells that it has died. Raises LocalServiceError after too many deaths."""
        if self._restarts >= _MAX_RESTARTS:
            raise LocalServiceError(self.epitaph(f"died {self._restarts + 1} times, last"))
        self._restarts += 1
        self.context.tell(self.epitaph("died") + "\nIt is started again.")

    async def stop(self) -> None:
        """Ends it: SIGTERM, and SIGKILL for the whole session after STOP_S."""
        process = self.process
        if process is None:
            return
        process.terminate()
        until = time.monotonic() + STOP_S
        while process.poll() is None and time.monotonic() < until:  # noqa: ASYNC110 - a process sets no event
            await asyncio.sleep(POLL_S)
        self.kill()
        self.reap()

    def reap(self) -> None:
        """Waits for a process that was killed."""
        if self.process is not None:
            self.process.wait()
            if self.process.stdin is not None:
                self.process.stdin.close()

    def kill(self) -> None:
        """Ends it and whatever it started, at once."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)  # it leads its own session
