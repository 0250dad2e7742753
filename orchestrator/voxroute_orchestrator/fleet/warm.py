"""Local services that stay warm: the next command with the same settings finds them running.

A service is known by a digest of all that decides what it does: its flags, the environment that
matters, the version and the very files of the code, and the files of its model. Its files are in a
folder of this user alone:

    DIGEST.lock    held by a command while it looks for the service, starts it or replaces it
    DIGEST.json    what it is; locked (shared) by whoever uses the service
    DIGEST.sock    where it listens

So two commands that begin at once share one service, and all locks end with their processes. The
service itself ends when its DIGEST.json has not been locked for a while; see child.py.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import re
import signal
import stat
import sys
import sysconfig
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import grpc.aio
import platformdirs
import psutil

from voxroute_orchestrator import __version__
from voxroute_orchestrator.client.connection import CallPolicy, connect, is_serving
from voxroute_orchestrator.errors import LocalServiceError
from voxroute_orchestrator.fleet import spare
from voxroute_orchestrator.fleet.child import is_at
from voxroute_orchestrator.fleet.local_process import (
    POLL_S,
    STOP_S,
    Context,
    LocalService,
    LocalSpec,
)
from voxroute_orchestrator.settings import Settings

if TYPE_CHECKING:
    from subprocess import Popen

_MAX_FOLDER_PATH = 80  # bytes; a socket's path may have 103 on macOS
_PRIVATE = 0o700
_DIGITS = 12
_LOGS_KEPT = 10
_LOOK_S = 0.1  # for a lock that others hold for a moment while they look
_LEAVE_S = 2.0  # for one that they hold no longer than that, unless the service is about to end
_ANSWER_S = 5.0  # for an idle service to answer
_BUSY_ANSWER_S = 30.0  # for one that others use, whose work would be lost
_HUNG_STOP_S = 2.0  # between SIGTERM and SIGKILL for one that does not answer

# variables that change what a service does; those of a terminal or a login session do not
_MATTERS = re.compile(
    r"(VOXROUTE|HF|HUGGINGFACE|TRANSFORMERS|TORCH|PYTORCH|CUDA|CUBLAS|CUDNN|NVIDIA|NCCL|OMP|GOMP|KMP"
    r"|MKL|OPENBLAS|NUMEXPR|VECLIB|CT2|ORT|MLX|METAL|OTEL|GRPC|PYTHON|LD|DYLD|MALLOC|SSL|REQUESTS"
    r"|CURL|LC)_?.*|(HTTPS?|NO|ALL)_PROXY|HOME|LANG|TZ|TMPDIR|XDG_(CACHE|CONFIG|DATA)_HOME",
    re.IGNORECASE,
)
_OF_SERVICES_TOO = {
    "diarization_model", "insecure", "keepalive_s", "log_text", "model_cache_dir", "offline",
    "tracing",
}  # fmt: skip
_OF_THE_COMMAND = {
    f"VOXROUTE_{name.upper()}" for name in set(Settings.model_fields) - _OF_SERVICES_TOO
} | {"VOXROUTE_SERVER"}

_kept: "list[Popen[bytes]]" = []
"""Services that this process has started and let go; waited for once they have ended."""


@dataclass(frozen=True, slots=True)
class Record:
    """What a DIGEST.json says of a service."""

    name: str
    """For people: "speech service"."""
    module: str
    model: str
    version: str
    pid: int
    idle_s: float
    log: str
    mark: str
    """Stands in its command line."""


@dataclass(frozen=True, slots=True)
class Running:
    """A warm service as people see it."""

    record: Record
    path: Path
    in_use: bool
    unused_s: float
    memory_bytes: int


# --- where they are


def folder(tell: Callable[[str], None]) -> Path | None:
    """The folder of this user's warm services, made if need be.

    `tell` hears of a folder that cannot be trusted. None where there is none, and services cannot
    stay.
    """
    for candidate in _candidates():
        try:
            _make_private(candidate)
        except FileNotFoundError:
            continue
        except OSError as error:
            tell(f"{candidate} cannot hold local services ({error}); another folder is used")
            continue
        return candidate
    tell("no folder can hold local services for the next command, so they end with this one")
    return None


def _candidates() -> Iterator[Path]:
    paths = [*spare.places()]
    with contextlib.suppress(OSError):
        paths.append(platformdirs.user_cache_path("voxroute", ensure_exists=True) / "run")
    return (path for path in paths if len(os.fsencode(path)) <= _MAX_FOLDER_PATH)


def _make_private(path: Path) -> None:
    """Makes the folder. Raises OSError where another user could enter or replace it."""
    above = path.parent.stat()
    others_write = above.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if above.st_uid not in {0, os.getuid()} or (others_write and not above.st_mode & stat.S_ISVTX):
        raise PermissionError(f"other users can write to {path.parent}")
    with contextlib.suppress(FileExistsError):
        path.mkdir(_PRIVATE)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError("it is no folder of this user")
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise PermissionError("others can enter it; `chmod 700` it")


# --- which one is meant


def digest(spec: LocalSpec, environment: Mapping[str, str]) -> tuple[str, Path | None]:
    """What tells the service from all others; and the folder to run it in, None for any.

    The folder counts where a variable holds a path that is relative to it.
    """
    variables = {
        name: value
        for name, value in sorted(environment.items())
        if _MATTERS.fullmatch(name) and not _only_of_the_command(name)
    }
    parts = (part for value in variables.values() for part in value.split(os.pathsep))
    relative = any(part and not part.startswith("/") and Path(part).exists() for part in parts)
    here = Path.cwd() if relative else None
    what = {
        "python": [sys.executable, sys.version],
        "version": __version__,
        "code": _stamp_of_code(spec.module),
        "module": spec.module,
        "arguments": spec.arguments,
        "models": [_stamp(sorted(path.rglob("*"))) for path in _directories(spec.arguments)],
        "variables": variables,
        "folder": str(here),
    }
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:_DIGITS], here


def _only_of_the_command(name: str) -> bool:
    return name in _OF_THE_COMMAND or name.startswith("VOXROUTE_SUBTITLES__")


def _stamp_of_code(module: str) -> list[list[Any]]:
    """Names, sizes and times of the service's own code, and of where packages are installed."""
    files: list[Path] = []
    for package in ("voxroute", "voxroute_serving", module):
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations if spec is not None else None) or ():
            files += sorted(Path(place).rglob("*.py"))
    files.append(Path(__file__).with_name("child.py"))
    installed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    return _stamp([*files, *map(Path, sorted(installed))])


def _stamp(files: Iterable[Path]) -> list[list[Any]]:
    stamps: list[list[Any]] = []
    for path in files:
        with contextlib.suppress(OSError):  # removed meanwhile
            status = path.stat()
            size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
            stamps.append([str(path), size, status.st_mtime_ns])
    return stamps


def _directories(arguments: Iterable[str]) -> list[Path]:
    parts = [part for argument in arguments for part in re.split("[,=]", argument)]
    return [
        Path(part) for part in dict.fromkeys(parts) if part.startswith("/") and Path(part).is_dir()
    ]


# --- locks and records


@contextlib.contextmanager
def _opened(path: Path) -> Generator[int]:
    file = os.open(path, os.O_RDWR)
    try:
        yield file
    finally:
        os.close(file)


def _lock(file: int, kind: int) -> bool:
    """Whether the lock could be had at once."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unused(file: int) -> bool:
    """Whether nobody uses the service of a record; nobody can begin to while it is open then."""
    until = time.monotonic() + _LOOK_S
    while not _lock(file, fcntl.LOCK_EX):
        if time.monotonic() >= until:
            return False
        time.sleep(POLL_S / 5)
    return True


async def _locked_soon(file: int, kind: int, limit_s: float) -> bool:
    """Whether the lock could be had within that time."""
    until = time.monotonic() + limit_s
    while not _lock(file, kind):
        if time.monotonic() >= until:
            return False
        await asyncio.sleep(POLL_S / 5)
    return True


def _read(path: Path) -> Record | None:
    """What the record says; None where there is none, or it is not written yet."""
    try:
        return Record(**cast("dict[str, Any]", json.loads(path.read_text(encoding="utf-8"))))
    except (OSError, ValueError, TypeError):
        return None


def _process(record: Record | None) -> psutil.Process | None:
    """The living process of a record; another with the same id does not count."""
    if record is None:
        return None
    _reap()
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(record.pid)
        if process.status() != psutil.STATUS_ZOMBIE and record.mark in process.cmdline():
            return process
    return None


def _reap() -> None:
    """Waits for services of this process that have ended."""
    _kept[:] = [process for process in _kept if process.poll() is None]


def _end(process: psutil.Process, limit_s: float = STOP_S) -> None:
    """SIGTERM, and SIGKILL for the whole session after that time. Blocking."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.terminate()
    if not _gone(process, limit_s):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        _gone(process, STOP_S)


def _gone(process: psutil.Process, limit_s: float) -> bool:
    """Whether a process has ended within that time; it may be a child of this one."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        _reap()
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                time.sleep(POLL_S)
                continue
        return True
    return False


def _remove(path: Path) -> None:
    """Removes the files of a service that does not run, except for a lock that somebody holds."""
    path.with_suffix(".sock").unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    lock = path.with_suffix(".lock")
    with contextlib.suppress(OSError), _opened(lock) as file:
        if _lock(file, fcntl.LOCK_EX) and is_at(file, lock):
            lock.unlink()


# --- what people do with them


def running() -> list[Running]:
    """The warm services of this user; what is left of dead ones is removed."""
    place = folder(lambda _: None)
    if place is None:
        return []
    found: list[Running] = []
    for path in sorted(place.glob("*.json")):
        with contextlib.suppress(FileNotFoundError, psutil.Error):
            service = _looked_at(path)
            found += [service] if service is not None else []
    for lock in place.glob("*.lock"):
        if not lock.with_suffix(".json").exists():
            _remove(lock.with_suffix(".json"))
    return found


def _looked_at(path: Path) -> Running | None:
    """The service of a record; None for one that does not run, whose files are removed."""
    record = _read(path)
    process = _process(record)
    memory = process.memory_info().rss if process is not None else 0
    with _opened(path) as file:
        idle = _unused(file)
        if process is None or record is None:
            if idle and is_at(file, path):
                _remove(path)
            return None
        unused_s = max(0.0, time.time() - os.fstat(file).st_mtime)
        return Running(record, path, not idle, unused_s if idle else 0.0, memory)


def stop(service: Running, *, force: bool) -> bool:
    """Whether the service was ended: one that a command uses is only with `force`. Blocking."""
    try:
        with _opened(service.path) as file:
            if not _unused(file) and not force:
                return False
            process = _process(service.record)
            if process is not None:
                _end(process)
            if is_at(file, service.path):
                _remove(service.path)
    except FileNotFoundError:
        pass
    return True


# --- the service


class WarmService(LocalService):
    """A service that may be there already, and that stays for others."""

    def __init__(self, spec: LocalSpec, folder: Path, context: Context, idle_s: float) -> None:
        super().__init__(spec, folder, context)
        self._idle_s = idle_s
        self._digest, self._run_in = digest(spec, context.environment)
        self._stays = False  # whether the process that this command has started outlives it
        self._lease: int | None = None  # the locked record, while this command uses the service

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self._record.with_suffix(".sock")

    @property
    def log(self) -> Path:
        """What it writes, cut off from time to time."""
        name = f"{self.spec.module}-{self._digest}.log"
        try:
            return platformdirs.user_log_path("voxroute", ensure_exists=True) / name
        except OSError:
            return self.folder / name

    @property
    def _record(self) -> Path:
        return self.folder / f"{self._digest}.json"

    def kept_log(self) -> Path | None:
        """The log itself: it outlives the service."""
        return self.log if self.log.exists() else None

    async def start(self) -> None:
        """Returns once a service serves: one that was there, or a new one.

        Raises LocalServiceError with what it wrote.
        """
        try:
            lock = await self._locked()
            try:
                if not await self._joined():
                    await self._begin()
            finally:
                os.close(lock)
        except OSError as error:
            raise LocalServiceError(
                f"{self.spec} cannot be kept for the next command"
                f" ({error.filename or self.folder}: {error.strerror}); see to that, or start it"
                " for this one alone with `voxroute --local-idle-s 0`"
            ) from error

    async def _locked(self) -> int:
        """The lock on looking for the service and starting it. Raises LocalServiceError."""
        path = self._record.with_suffix(".lock")
        until = time.monotonic() + self.context.startup_timeout_s
        told = False
        with contextlib.ExitStack() as shown:
            while True:
                file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
                if _lock(file, fcntl.LOCK_EX) and is_at(file, path):
                    return file
                os.close(file)
                if time.monotonic() >= until:
                    raise LocalServiceError(
                        f"another command has been starting {self.spec} for"
                        f" {self.context.startup_timeout_s:.0f} s; end that command and try again"
                    )
                if not told:
                    told = True
                    shown.enter_context(self.context.waits(f"another command starts {self.spec}"))
                await asyncio.sleep(2 * POLL_S)

    async def _joined(self) -> bool:
        """Whether a service is there and serves; it is used by this command then."""
        process = _process(_read(self._record))
        if process is None:
            return False
        try:
            lease = os.open(self._record, os.O_RDWR)
        except FileNotFoundError:  # it was ended just now
            return False
        try:
            idle = await _locked_soon(lease, fcntl.LOCK_EX, _LOOK_S)
            if await _locked_soon(lease, fcntl.LOCK_SH, _LEAVE_S):
                if await self._answers(_ANSWER_S if idle else _BUSY_ANSWER_S):
                    self._lease = lease
                    return True
                self.context.tell(
                    f"{self.spec} that was left running does not serve; it is started anew"
                )
                await asyncio.to_thread(_end, process, _HUNG_STOP_S)
            else:  # it is about to end
                await asyncio.to_thread(_end, process)
            return False
        finally:
            if self._lease is None:
                os.close(lease)

    async def _answers(self, limit_s: float) -> bool:
        with contextlib.suppress(grpc.aio.AioRpcError):
            async with connect(self.endpoint(), CallPolicy()) as channel:
                return await is_serving(channel, limit_s)
        return False

    async def _begin(self) -> None:
        """Starts a new one, and lets it go once it serves. Raises LocalServiceError."""
        self._stays = False
        await asyncio.to_thread(self._make_room)
        # locked before others see it: they take an unlocked record for a leftover
        fresh = self._record.with_suffix(".new")
        self._lease = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        _lock(self._lease, fcntl.LOCK_SH)
        fresh.rename(self._record)
        try:
            # one that has imported what was there before an upgrade is not what the digest says
            spare.dismiss(max(stamp[2] for stamp in _stamp_of_code(self.spec.module)))
            where = self._run_in or self.folder
            self.launch(record=str(self._record), idle_s=str(self._idle_s), folder=where)
            self._write_record()
            await self.wait_until_serving()
        except BaseException:
            self.kill()
            self.reap()
            self._release()
            _remove(self._record)
            raise
        self._let_go()

    def _make_room(self) -> None:
        """Ends services of the same kind that nobody uses, and removes what others have left."""
        for other in running():
            if other.record.module == self.spec.module and other.path != self._record:
                stop(other, force=False)
        logs = platformdirs.user_log_path("voxroute").glob("voxroute_*-*.log")
        with contextlib.suppress(OSError):
            for log in sorted(logs, key=lambda path: path.stat().st_mtime)[:-_LOGS_KEPT]:
                log.unlink()

    def _write_record(self) -> None:
        assert self.process is not None  # noqa: S101 - it was launched
        assert self._lease is not None  # noqa: S101 - as above
        record = Record(
            name=self.spec.name,
            module=self.spec.module,
            model=self.spec.model,
            version=__version__,
            pid=self.process.pid,
            idle_s=self._idle_s,
            log=str(self.log),
            mark=self.mark,
        )
        os.write(self._lease, json.dumps(asdict(record)).encode())

    def _let_go(self) -> None:
        """From now on the service outlives this command."""
        process = self.process
        assert process is not None  # noqa: S101 - it was launched
        assert process.stdin is not None  # noqa: S101 - it is a pipe
        with contextlib.suppress(BrokenPipeError):  # it has died; the first call tells
            process.stdin.write(b"k")
            process.stdin.close()
        _kept.append(process)
        self._stays = True

    def _release(self) -> None:
        """Lets the service be idle, as far as this command is concerned."""
        if self._lease is not None:
            os.close(self._lease)
            self._lease = None

    async def recover(self) -> None:
        """Starts it again if it has died, or joins the one that another command has started.

        Raises LocalServiceError after too many deaths.
        """
        async with self._recovering:
            ours = self._lease is not None and is_at(self._lease, self._record)
            if ours and _process(_read(self._record)) is not None:
                return
            if ours:
                self.count_death()
            self._release()
            await self.start()

    async def stop(self) -> None:
        """Leaves it to others."""
        self._release()

    def kill(self) -> None:
        """Ends it at once where it is not left to others yet."""
        if not self._stays:
            super().kill()
