"""A conversion ahead of a model's first use, by what the engine's manifest names for it.

python -m voxroute_serving.models.preparation MODULE:FUNCTION NAME DIRECTORY CACHE_DIR

Writes a JSON object a line to stdout: {"activity": "converting to MLX"}, and at the end either
{"directory": "/..."} or {"error": "a sentence"}. Exit codes: 0, and 1 after an error.
"""

import json
import pkgutil
import sys
from collections.abc import Callable
from pathlib import Path

from voxroute_serving.domain import Activity
from voxroute_serving.errors import ServingError

Prepare = Callable[[str, Path, Path, Activity], Path]
"""Takes name, source, cache and activity; the directory of the model as the engine reads it."""


def main(function: str, name: str, source: str, cache_dir: str) -> int:
    """Prepares a model; the exit code."""
    try:
        prepare: Prepare = pkgutil.resolve_name(function)
        directory = prepare(
            name, Path(source), Path(cache_dir), lambda activity: _say(activity=activity)
        )
    except ServingError as error:
        _say(error=error.message)
        return 1
    except Exception as error:  # noqa: BLE001 - of a library that meets files that are not right
        _say(error=f"{name} cannot be converted: {error}; check that its files are complete")
        return 1
    _say(directory=str(directory))
    return 0


def _say(**fields: str) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
