"""A conversion ahead of a model's first use: python -m PACKAGE.prepare NAME DIRECTORY CACHE_DIR.

Writes a JSON object a line to stdout: {"activity": "converting to MLX"}, and at the end either
{"directory": "/..."} or {"error": "a sentence"}. Exit codes: 0, and 1 after an error.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

from voxroute_serving.domain import Activity
from voxroute_serving.errors import ServingError

Prepare = Callable[[str, Path, Path, Activity], Path]
"""Takes name, source, cache and activity; the directory of the model as the engine reads it."""


def run(prepare: Prepare) -> int:
    """Prepares the model that the arguments of the process name; the exit code."""
    name, source, cache_dir = sys.argv[1:]
    try:
        directory = prepare(
            name, Path(source), Path(cache_dir), lambda activity: _say(activity=activity)
        )
    except ServingError as error:
        _say(error=error.message)
        return 1
    _say(directory=str(directory))
    return 0


def _say(**fields: str) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()
