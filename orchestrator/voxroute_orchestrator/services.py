"""Local services: started as child processes on unix sockets, stopped whatever happens."""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc.aio
import platformdirs

from voxroute_orchestrator.clients import CallPolicy, Endpoint, connect, is_serving
from voxroute_orchestrator.errors import LocalServiceError

_STOP_S = 10.0  # between SIGTERM and SIGKILL; longer than any window on any device
_POLL_S = 0.2
_LOG_LINES = 8
_LOG_BYTES = 8192
_MAX_RESTARTS = 2
_MAX_SOCKET_PATH = 100  # bytes; the kernel's limit is 107 on Linux and 103 on macOS


@dataclass(frozen=True, slots=True)
class LocalSpec:
    """A service to start: what to call it, its module, its flags."""

    name: str
    """For people: "speech service"."""
    module: str
    arguments: tuple[str, ...] = ()


@dataclass(slots=True)
class LocalService:
    """A service that runs as a child of this process."""

    spec: LocalSpec
    folder: Path
    environment: Mapping[str, str]
    startup_timeout_s: float
    tell: Callable[[str], None]
    process: asyncio.subprocess.Process | None = None
    restarts: int = 0
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def target(self) -> str:
        """Its address."""
        return f"unix:{self.folder / self.spec.module}.sock"

    @property
    def log(self) -> Path:
        """What it writes."""
        return self.folder / f"{self.spec.module}.log"

    def endpoint(self) -> Endpoint:
        """How clients reach it; a client that lost it has it started again."""
        return Endpoint(self.spec.name, self.target, self.recover)

    async def start(self) -> None:
        """Returns once it serves. Raises LocalServiceError with what it wrote."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.target.removeprefix("unix:"))  # noqa: PTH108 - ASYNC240 wants no Path
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "voxroute_orchestrator.child",
                str(os.getpid()),
                self.spec.module,
                "--listen",
                self.target,
                "--metrics-listen",
                "",
                "--log-format",
                "console",
                *self.spec.arguments,
                stdin=asyncio.subprocess.PIPE,  # ends when this process does; see child.py
                stdout=log,
                stderr=log,
                env=dict(self.environment),
                start_new_session=True,  # Ctrl-C in the terminal is for the orchestrator alone
            )
        await self._wait_until_serving()

    async def _wait_until_serving(self) -> None:
        process = self.process
        assert process is not None  # noqa: S101 - start sets it
        until = time.monotonic() + self.startup_timeout_s
        async with connect(self.endpoint(), CallPolicy()) as channel:
            while time.monotonic() < until:
                if process.returncode is not None:
                    raise LocalServiceError(self._epitaph("ended while it was starting"))
                with contextlib.suppress(grpc.aio.AioRpcError):
                    if await is_serving(channel):
                        return
                await asyncio.sleep(_POLL_S)
        raise LocalServiceError(
            self._epitaph(
                f"was not ready after {self.startup_timeout_s:.0f} s"
                " (VOXROUTE_STARTUP_TIMEOUT_S sets how long that may take)"
            )
        )

    def _epitaph(self, what: str) -> str:
        """What happened, the exit status, and the end of the log, which is kept."""
        status = self.process.returncode if self.process is not None else None
        if status is None:
            code = ""
        elif status < 0:
            code = f" by signal {signal.Signals(-status).name}"
        else:
            code = f" with exit code {status}"
        lines = self._log_end()
        kept = self._keep_log()
        said = "\n".join(f"    {line}" for line in lines) or "    (it wrote nothing)"
        where = f"; all it wrote is in {kept}" if kept else ""
        return f"the local {self.spec.name} ({self.spec.module}) {what}{code}{where}:\n{said}"

    def _log_end(self) -> list[str]:
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - _LOG_BYTES))
                text = file.read().decode(errors="replace")
        except OSError:
            return []
        return [line.rstrip()[:300] for line in text.splitlines() if line.strip()][-_LOG_LINES:]

    def _keep_log(self) -> Path | None:
        """A copy of the log where it outlives this process; None where that fails."""
        with contextlib.suppress(OSError):
            folder = platformdirs.user_log_path("voxroute", ensure_exists=True)
            return Path(shutil.copy(self.log, folder / f"{self.spec.module}.log"))
        return None

    async def recover(self) -> None:
        """Starts it again if it has died. Raises LocalServiceError after too many deaths."""
        async with self._lock:
            if self.process is None or self.process.returncode is None:
                return
            if self.restarts >= _MAX_RESTARTS:
                raise LocalServiceError(self._epitaph(f"died {self.restarts + 1} times, last"))
            self.restarts += 1
            self.tell(self._epitaph("died") + "\nIt is started again.")
            await self.start()

    async def stop(self) -> None:
        """Ends it: SIGTERM, and SIGKILL for the whole session after _STOP_S."""
        process = self.process
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), _STOP_S)
        self.kill()
        await process.wait()

    def kill(self) -> None:
        """Ends it and whatever it started, at once."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)  # it leads its own session


@contextlib.asynccontextmanager
async def local_services(
    specs: Sequence[LocalSpec],
    *,
    environment: Mapping[str, str],
    startup_timeout_s: float,
    tell: Callable[[str], None],
) -> AsyncGenerator[list[LocalService]]:
    """The services, all serving; stopped at the end of the block whatever happened.

    Raises LocalServiceError where one does not come up.
    """
    folder = private_folder()
    running = [LocalService(spec, folder, environment, startup_timeout_s, tell) for spec in specs]
    try:
        await _start_all(running)
        yield running
    finally:
        stopping = asyncio.ensure_future(_stop_all(running, folder))
        try:
            await asyncio.shield(stopping)
        except asyncio.CancelledError:
            # a second Ctrl-C: no more patience, but no orphans either
            for service in running:
                service.kill()
            await stopping
            raise


async def _start_all(services: Sequence[LocalService]) -> None:
    """Starts all at once; the first failure ends the wait for the others."""
    starts = [asyncio.ensure_future(service.start()) for service in services]
    try:
        await asyncio.gather(*starts)
    finally:
        for start in starts:
            start.cancel()
        await asyncio.gather(*starts, return_exceptions=True)


async def _stop_all(services: Sequence[LocalService], folder: Path) -> None:
    await asyncio.gather(*(service.stop() for service in services), return_exceptions=True)
    shutil.rmtree(folder, ignore_errors=True)


def private_folder() -> Path:
    """A new folder for sockets that only this user can enter, with a short path."""
    for parent in (None, "/tmp"):  # noqa: S108 - mkdtemp makes a private folder in it
        folder = Path(tempfile.mkdtemp(prefix="voxroute-", dir=parent))
        if len(os.fsencode(folder)) + 30 <= _MAX_SOCKET_PATH:
            return folder
        folder.rmdir()
    raise LocalServiceError("the path of the temporary folder is too long for sockets; set TMPDIR")
