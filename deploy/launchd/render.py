"""Writes the launchd job of the MLX service to stdout: render.py PYTHON LOGS [FLAG...].

The flags are the service's own; one that the template has too takes its place.
"""

# ruff: noqa: INP001 - a script, no package
import math
import plistlib
import sys
from pathlib import Path

TEMPLATE = Path(__file__).with_name("org.voxroute.asr-mlx.plist")
FREE_S = 30  # for freeing the model after the drain
PROGRAM = 3  # PYTHON -m MODULE; flags and their values follow in pairs


def rendered(python: str, logs: str, flags: list[str]) -> bytes:
    """The property list, for an interpreter, a directory of logs, and further flags."""
    job = plistlib.loads(TEMPLATE.read_bytes())
    given = {flag.partition("=")[0] for flag in flags}
    arguments: list[str] = job["ProgramArguments"]
    defaults = zip(arguments[PROGRAM::2], arguments[PROGRAM + 1 :: 2], strict=True)
    kept = [part for name, value in defaults if name not in given for part in (name, value)]
    job["ProgramArguments"] = [python, *arguments[1:PROGRAM], *kept, *flags]
    job["ExitTimeOut"] = math.ceil(_drain_s(job["ProgramArguments"])) + FREE_S
    for key in ("StandardOutPath", "StandardErrorPath"):
        job[key] = job[key].replace("{{logs}}", logs)
    return plistlib.dumps(job, sort_keys=False)


def _drain_s(arguments: list[str]) -> float:
    """The value of the last `--drain-s`."""
    parts = [part for argument in arguments for part in argument.split("=", 1)]
    last = len(parts) - 1 - parts[::-1].index("--drain-s")
    return float(parts[last + 1])


if __name__ == "__main__":
    sys.stdout.buffer.write(rendered(sys.argv[1], sys.argv[2], sys.argv[3:]))
