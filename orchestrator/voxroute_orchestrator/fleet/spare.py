"""A process for the local speech service, started before it is known with which settings.

A command takes a second until it knows which service it needs and with what flags, and the service
takes as long to import its libraries. Where a local one is likely, both happen at once: a process
of child.py imports, and waits for its order on its standard input. One that is not needed is ended,
at the latest with the command, whose end of the pipe closes. Guessing wrong costs time, no more.

Only what the interpreter has at hand is imported here: this comes before all else.
"""

import contextlib
import importlib.util
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from voxroute_orchestrator.engines import OURS, name_of

MODULE = OURS["cpu"]
COMMANDS = frozenset({"run", "transcribe"})

_FLAGS = ("--asr-endpoint", "--config", "--help", "-h")  # with which there is none to start
_VARIABLES = ("VOXROUTE_ASR_ENDPOINTS", "VOXROUTE_CONFIG")
# what the command changes for its services, and no library reads when it is imported
_OURS = ("VOXROUTE_", "OTEL_", "HF_HUB_OFFLINE")


@dataclass(frozen=True, slots=True)
class Spare:
    """A process that waits for its order."""

    process: "subprocess.Popen[bytes]"
    mark: str
    """Stands in its command line and in that of no other process."""
    environment: Mapping[str, str]
    started_ns: int
    """By the clock that files have."""


_spares: list[Spare] = []


def begin(arguments: Sequence[str]) -> None:
    """Starts one where the arguments of the command let a local service seem likely."""
    if not _is_likely(arguments):
        return
    mark = secrets.token_hex(8)
    environment, started_ns = dict(os.environ), time.time_ns()
    with contextlib.suppress(OSError):
        process = subprocess.Popen(  # noqa: S603 - our own module
            # -P: it runs where the command does, whose folder is nobody's to import from
            [
                sys.executable,
                "-P",
                "-m",
                "voxroute_orchestrator.fleet.child",
                "--spare",
                MODULE,
                mark,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
        _spares.append(Spare(process, mark, environment, started_ns))


def take(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path | None
) -> Spare | None:
    """The process, which runs child.py's arguments from now on; None where there is none for them.

    `environment` and `folder` are those that a new process would have.
    """
    if MODULE not in arguments or not _spares:
        return None
    spare = _spares.pop()
    order = {"arguments": arguments, "environment": environment, "folder": str(folder or Path())}
    assert spare.process.stdin is not None  # noqa: S101 - it is a pipe
    if spare.process.poll() is None and _foreign(spare.environment) == _foreign(environment):
        with contextlib.suppress(OSError):
            spare.process.stdin.write(json.dumps(order).encode() + b"\n")
            spare.process.stdin.flush()
            return spare
    _end(spare)
    return None


def dismiss(changed_ns: int | None = None) -> None:
    """Ends the process that has got no order; with a time, one that may have older code in it."""
    if changed_ns is None or any(spare.started_ns <= changed_ns for spare in _spares):
        while _spares:
            _end(_spares.pop())


def places() -> Iterator[Path]:
    """Folders that warm services of this user may be in."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    with contextlib.suppress(OSError):
        # after `sudo` it may be another user's
        if runtime.startswith("/") and Path(runtime).stat().st_uid == os.getuid():
            yield Path(runtime, "voxroute")
    yield Path(tempfile.gettempdir(), f"voxroute-{os.getuid()}")


def _is_likely(arguments: Sequence[str]) -> bool:
    """Whether a recording is named, and nothing that does without a new service."""
    return (
        sys.platform == "linux"
        and not COMMANDS.isdisjoint(arguments)
        and not any(one.partition("=")[0] in _FLAGS for one in arguments)
        and all(b == name_of(MODULE) for a, b in pairwise(arguments) if a == "--backend")
        and not any(os.environ.get(name) for name in _VARIABLES)
        and any(os.path.isfile(one) for one in arguments if not one.startswith("-"))  # noqa: PTH113 - no name raises
        and not Path("voxroute.yaml").is_file()
        and importlib.util.find_spec(MODULE) is not None
        and not _is_warm()
    )


def _is_warm() -> bool:
    """Whether there is a record of a speech service; the process of it may have ended."""
    for place in places():
        with contextlib.suppress(OSError):
            if any(MODULE in path.read_text(errors="replace") for path in place.glob("*.json")):
                return True
    return False


def _foreign(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.startswith(_OURS)}


def _end(spare: Spare) -> None:
    spare.process.kill()
    spare.process.wait()
    if spare.process.stdin is not None:
        with contextlib.suppress(OSError):
            spare.process.stdin.close()
