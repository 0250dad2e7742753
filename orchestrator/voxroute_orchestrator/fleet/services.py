"""Local services for a job: its own, which end with it, or warm ones that others use as well."""

import asyncio
import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from pathlib import Path

from voxroute_orchestrator.errors import LocalServiceError
from voxroute_orchestrator.fleet import warm as warm_services
from voxroute_orchestrator.fleet.local_process import Context, LocalService, LocalSpec
from voxroute_orchestrator.fleet.warm import WarmService
from voxroute_orchestrator.reporter import Waits

__all__ = ["LocalService", "LocalSpec", "local_services", "private_folder"]

_PREFIX = "voxroute-run-"
_OWNER = "owner.lock"  # locked by the process whose folder it is
_MAX_SOCKET_PATH = 100  # bytes; the kernel's limit is 107 on Linux and 103 on macOS


@contextlib.asynccontextmanager
async def local_services(
    specs: Sequence[LocalSpec],
    *,
    environment: Mapping[str, str],
    startup_timeout_s: float,
    idle_s: float,
    tell: Callable[[str], None],
    waits: Waits,
) -> AsyncGenerator[list[LocalService]]:
    """The services, all serving.

    With an `idle_s` of 0 they end with the block, whatever happened; else they stay for others
    until nobody has used them for so long. Raises LocalServiceError where one does not come up.
    """
    context = Context(environment, startup_timeout_s, tell, waits)
    with contextlib.ExitStack() as stack:
        shared = warm_services.folder(tell) if idle_s and specs else None
        own = stack.enter_context(private_folder()) if shared is None else None
        running: list[LocalService] = []
        for spec in specs:
            if shared is not None:
                running.append(WarmService(spec, shared, context, idle_s))
            elif own is not None:
                running.append(LocalService(spec, own, context))
        try:
            await _start_all(running)
            yield running
        finally:
            stops = (service.stop() for service in running)
            stopping = asyncio.gather(*stops, return_exceptions=True)
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


@contextlib.contextmanager
def private_folder() -> Generator[Path]:
    """A new folder for sockets that only this user can enter, with a short path.

    It is removed at the end. What runs that were killed have left behind is removed too.
    """
    folder, owner = _new_folder()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(owner)


def _new_folder() -> tuple[Path, int]:
    """The folder, and the file whose lock says that it is in use."""
    for parent in (tempfile.gettempdir(), "/tmp"):  # noqa: S108 - mkdtemp makes a private folder in it
        _remove_leftovers(Path(parent))
        while True:
            folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
            if len(os.fsencode(folder)) + 30 > _MAX_SOCKET_PATH:
                folder.rmdir()
                break
            owner = os.open(folder / _OWNER, os.O_RDWR | os.O_CREAT, 0o600)
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if folder.exists():
                    return folder, owner
            os.close(owner)  # another run took it for a leftover in the moment before the lock
    raise LocalServiceError("the path of the temporary folder is too long for sockets; set TMPDIR")


def _remove_leftovers(parent: Path) -> None:
    """Removes folders of this user whose owner is dead."""
    for folder in parent.glob(f"{_PREFIX}*"):
        try:
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            owner = os.open(folder / _OWNER, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:  # none of ours, or just being made or removed
            continue
        try:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(owner)
