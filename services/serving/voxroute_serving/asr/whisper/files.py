"""What the files of a Whisper model say about it, in any format. No ML library is imported."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from voxroute_serving.asr.whisper.family import TRANSCRIBE_ONLY
from voxroute_serving.errors import ModelUnavailableError
from voxroute_serving.models import hub

Task = Literal["transcribe", "translate"]


@dataclass(frozen=True, slots=True)
class ModelTraits:
    """What a model can be asked for."""

    languages: tuple[str, ...]
    """BCP-47."""
    tasks: tuple[Task, ...]
    keeps_pauses: bool = False
    """Whether it is to hear speech with its pauses, as it was trained."""


def traits_of(source: Path, name: str, languages: Sequence[str]) -> ModelTraits:
    """What a model can be asked for; `name` is what it is called.

    `languages` are the tags of those that its tokenizer tells apart; empty for a model of English
    alone. The `voxroute.json` of `source`, where there is one, decides: {"languages": ["hi", "en"],
    "tasks": ["transcribe"], "keeps_pauses": true}, each key optional.

    Raises ModelUnavailableError where that file cannot be read.
    """
    own = read_json(source / "voxroute.json", needed=False)
    tasks: tuple[Task, ...] = ("transcribe",)
    if own.get("tasks"):
        tasks = tuple(t for t in ("transcribe", "translate") if t in _strings(own, "tasks"))
    elif languages and not any(part in name for part in TRANSCRIBE_ONLY):
        tasks = ("transcribe", "translate")
    return ModelTraits(
        _strings(own, "languages") or tuple(languages) or ("en",),
        tasks,
        keeps_pauses=own.get("keeps_pauses") is True,
    )


def _strings(document: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value: Sequence[object] = document.get(key) or ()
    return tuple(str(item) for item in value)


def read_json(path: Path, *, needed: bool) -> dict[str, Any]:
    """The object in a JSON file; empty where it is missing and not needed.

    Raises ModelUnavailableError.
    """
    try:
        return cast("dict[str, Any]", json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        if not needed:
            return {}
        raise ModelUnavailableError(
            f"the directory of model {path.parent.name!r} has no {path.name}; it holds no model"
        ) from error
    except (OSError, ValueError) as error:
        raise ModelUnavailableError(
            f"{path.name} of model {path.parent.name!r} cannot be read as JSON; get it again"
        ) from error


def cached_revision(hub_id: str, weights: Iterable[str]) -> str | None:
    """The commit of a hub's model of which one of these files is on this machine; None for none."""
    found = (hub.cached_file(hub_id, name) for name in weights)
    return next((path.parent.name for path in found if path is not None), None)
