"""Conversions of models ahead of their first use, by the services' own programs.

A service's package does it in a process of its own: this one imports no ML library.
"""

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from voxroute_orchestrator.errors import RefusedError, UsageError

Format = Literal["ctranslate2", "mlx"]


@dataclass(frozen=True, slots=True)
class Converter:
    """The package that converts a model."""

    module: str
    distribution: str
    install: str
    """How to get it, as the end of a sentence."""


_WHISPER: dict[Format, Converter] = {
    "ctranslate2": Converter(
        "voxroute_asr_whisperx", "voxroute-asr-whisperx", "install that package beside this one"
    ),
    "mlx": Converter(
        "voxroute_asr_mlx",
        "voxroute-asr-mlx",
        "install that package beside this one (on a Mac: ./install-mlx.sh)",
    ),
}
_TRANSLATION = Converter(
    "voxroute_translate", "voxroute-translate", "install that package beside this one"
)


def converter_of(directory: Path, wanted: Format) -> Converter:
    """The package that converts the model in a directory. Raises UsageError, RefusedError."""
    try:
        content: Any = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        config = cast("dict[str, Any]", content)
        kind = str(config.get("model_type", ""))
    except (OSError, ValueError, AttributeError) as error:
        raise UsageError(
            f"{directory} holds no config.json that can be read; name the directory of a model, a"
            " well-known name or a hub id"
        ) from error
    speech = kind == "whisper" or (directory / "model.bin").is_file() or "n_mels" in config
    if not speech and wanted == "mlx":
        raise UsageError(
            f"{directory.name} is a model of type {kind!r}; MLX runs Whisper here, and translation"
            " models are converted with --to ctranslate2"
        )
    converter = _WHISPER[wanted] if speech else _TRANSLATION
    if importlib.util.find_spec(converter.module) is None:
        raise RefusedError(
            f"this conversion is the work of {converter.distribution}, which is not installed here;"
            f" {converter.install}"
        )
    return converter


def convert(
    converter: Converter, name: str, directory: Path, cache_dir: Path, tell: Callable[[str], None]
) -> Path:
    """The converted model's directory in the services' cache; `tell` gets what is being done.

    Raises RefusedError with the package's own sentence.
    """
    command = [sys.executable, "-m", f"{converter.module}.prepare"]
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
            f"{converter.distribution} could not convert {name} (exit {process.returncode}){last}"
        )
    return Path(result["directory"])


def _message(line: str) -> dict[str, str]:
    """A line of the package's as what it says; nothing where a library has printed it."""
    try:
        content: Any = json.loads(line)
    except ValueError:
        return {}
    return cast("dict[str, str]", content) if isinstance(content, dict) else {}
