"""Conversions of models ahead of their first use, by the services' own programs.

A service's package does it in a process of its own: this one imports no ML library.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from voxroute_orchestrator.engines import installed
from voxroute_orchestrator.errors import RefusedError, UsageError


def converter_of(directory: Path, wanted: str) -> str:
    """The converter that an engine has for a model. Raises UsageError, RefusedError."""
    try:
        content: Any = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        config = cast("dict[str, Any]", content)
        model_type = str(config.get("model_type", ""))
    except (OSError, ValueError, AttributeError) as error:
        raise UsageError(
            f"{directory} holds no config.json that can be read; name the directory of a model, a"
            " well-known name or a hub id"
        ) from error
    speech = model_type == "whisper" or (directory / "model.bin").is_file() or "n_mels" in config
    kind = "asr" if speech else "translate"
    able = [e.converters for e in installed() if e.kind == kind and e.converters]
    for converters in able:
        if wanted in converters:
            return converters[wanted]
    raise RefusedError(
        f"no engine that is installed here converts {directory.name}, a model of type"
        f" {model_type!r}, to {wanted!r}; use --to"
        f" {' or '.join(to for converters in able for to in converters) or 'where one is'}"
    )


def convert(
    converter: str, name: str, directory: Path, cache_dir: Path, tell: Callable[[str], None]
) -> Path:
    """The converted model's directory in the services' cache; `tell` gets what is being done.

    Raises RefusedError with the engine's own sentence.
    """
    command = [sys.executable, "-m", "voxroute_serving.models.preparation", converter]
    result: dict[str, str] = {}
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log,
        subprocess.Popen(  # noqa: S603 - this Python and a module of ours
            [*command, name, str(directory), str(cache_dir)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        for line in process.stdout:
            said = _message(line)
            if "activity" in said:
                tell(said["activity"])
            result |= said
        process.wait()
        log.seek(0)
        lines = log.read().strip().splitlines()
    if "error" in result:
        raise RefusedError(result["error"])
    if process.returncode != 0 or "directory" not in result:
        last = f": {lines[-1]}" if lines else ""
        raise RefusedError(
            f"{converter} could not convert {name} (exit {process.returncode}){last}"
        )
    return Path(result["directory"])


def _message(line: str) -> dict[str, str]:
    """A line of the package's as what it says; nothing where a library has printed it."""
    try:
        content: Any = json.loads(line)
    except ValueError:
        return {}
    return cast("dict[str, str]", content) if isinstance(content, dict) else {}
