"""Processes of the product that begin with its libraries, which take a second to import each time.

A server imports them once and forks. What a test gets is a process like any other, with a number,
signals, files and an exit code of its own; only how the product starts is not tried by it.
"""

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn, cast

_LIBRARIES = (
    "voxroute_asr_whisperx.engine",
    "voxroute_gateway.process",
    "voxroute_orchestrator.cli.app",
    "voxroute_orchestrator.cli.run",
    "voxroute_orchestrator.jobs.service",
    "voxroute_serving.asr.app",
    "voxroute_serving.process.main",
    "voxroute_translate.engine",
)
_ORDER_BYTES = 1 << 18
_NUMBER_BYTES = 16


class Forked:
    """A process of the server: what tests use of a `subprocess.Popen`."""

    def __init__(self, about: int, stdout: IO[str] | None) -> None:
        self.stdout = stdout
        self.pid = int(os.read(about, _NUMBER_BYTES))
        self.returncode: int | None = None
        self._about = about

    def __del__(self) -> None:
        """Forgets one that nobody has waited for."""
        if self.returncode is None:
            os.close(self._about)

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The same, once it has ended. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self._about], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("a forked process", timeout or 0)
            self.returncode = int(os.read(self._about, _NUMBER_BYTES))
            os.close(self._about)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Sends a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Sends SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Sends SIGKILL."""
        self.send_signal(signal.SIGKILL)


Process = Forked | subprocess.Popen[str]
Done = subprocess.CompletedProcess[str]


def start(
    module: str,
    *arguments: str,
    environment: Mapping[str, str] = os.environ,
    folder: Path | None = None,
    stdout: IO[Any] | int = subprocess.PIPE,
    stderr: IO[Any] | None = None,
) -> Process:
    """`python -m module arguments`, as subprocess.Popen starts it; it reads nothing."""
    if sys.platform != "linux":  # where libraries do not outlive a fork
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments], env=environment, cwd=folder, text=True,
            stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
        )  # fmt: skip
    reading = None
    if isinstance(stdout, int):
        inner, outer = os.pipe()
        reading = os.fdopen(inner, encoding="utf-8")
    else:
        outer = os.dup(stdout.fileno())
    os.umask(mask := os.umask(0))
    order = [module, *arguments], dict(environment), str((folder or Path()).absolute()), mask
    about, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    files = [theirs.fileno(), outer, stderr.fileno() if stderr is not None else 2]
    try:
        socket.send_fds(_server(), [json.dumps(order).encode()], files)
    finally:
        theirs.close()
        os.close(outer)
    return Forked(about.detach(), reading)


def run(
    module: str,
    *arguments: str,
    environment: Mapping[str, str] = os.environ,
    folder: Path | None = None,
    timeout: float | None = None,
) -> Done:
    """The same to its end, with what it writes. Raises subprocess.TimeoutExpired."""
    with _text() as out, _text() as told:
        process = start(
            module, *arguments, environment=environment, folder=folder, stdout=out, stderr=told
        )
        try:
            code = process.wait(timeout)
        except BaseException:
            process.kill()
            raise
        out.seek(0)
        told.seek(0)
        return Done([module, *arguments], code, out.read(), told.read())


def _text() -> IO[str]:
    return tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")


@functools.cache
def _server() -> socket.socket:
    """Where orders go; what forks ends with this process, whose end closes then."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.forking", str(theirs.fileno())],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[theirs.fileno()],
        cwd=Path(__file__).parents[1],
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},  # threads do not outlive a fork
    )  # fmt: skip
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _serve(orders: socket.socket) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the processes
    gc.disable()
    for name in _LIBRARIES:
        importlib.import_module(name)
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that mind a process
    while True:
        data, files, _, _ = socket.recv_fds(orders, _ORDER_BYTES, 3)
        if not data:
            return
        if not os.fork():
            orders.close()
            _mind(json.loads(data), *files)
        for file in files:
            os.close(file)


def _mind(order: Any, about: int, stdout: int, stderr: int) -> NoReturn:
    """Forks the process, tells its number, and then how it has ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if not pid:
        os.close(about)
        _become(order, stdout, stderr)
    os.close(stdout)
    os.close(stderr)
    os.write(about, str(pid).encode())
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(OSError):  # the test is over
        os.write(about, str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _become(order: Any, stdout: int, stderr: int) -> NoReturn:
    """Ends as the interpreter ends."""
    command, environment, folder, mask = order
    os.umask(mask)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    os.close(stdout)
    os.close(stderr)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.enable()
    _prefer(environment.get("PYTHONPATH", "").split(os.pathsep))
    module, *sys.argv[1:] = command
    code: object = 1
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001 - as the interpreter does
        sys.excepthook(*cast("Any", sys.exc_info()))
    if not (code is None or isinstance(code, int)):
        sys.stderr.write(f"{code}\n")
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code or 0)


def _prefer(folders: Sequence[str]) -> None:
    """Takes modules from PYTHONPATH before those that are there, as a new interpreter does."""
    sys.path[:0] = front = [str(Path(one).absolute()) for one in folders if one]
    names = {path.stem for folder in front for path in Path(folder).glob("*")}
    for name in [name for name in sys.modules if name.partition(".")[0] in names]:
        del sys.modules[name]
    importlib.invalidate_caches()
    if "sitecustomize" in names:
        importlib.import_module("sitecustomize")


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
