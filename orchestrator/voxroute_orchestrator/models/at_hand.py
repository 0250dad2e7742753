"""Which models a local service gets: those that are named, or its own, or else what is here.

The hub is asked only where a model would have to come from it, and for two seconds at most. A model
that a person has named is never replaced by another.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from voxroute_orchestrator.errors import UsageError
from voxroute_orchestrator.models.hub import missing_files
from voxroute_orchestrator.models.hub_access import hub_answers
from voxroute_orchestrator.models.prechecks import newest_snapshot
from voxroute_orchestrator.settings import Settings, bundled_models
from voxroute_serving.asr.whisper.family import ALIASES
from voxroute_serving.manifest import Engine

_WORDS = {"asr": ("speech", "--model"), "translate": ("translation", "--translate-model")}
_BEST_FIRST = ("large-v3", "large-v3-turbo", "large-v2", "medium", "small", "base", "tiny")
_HUB_TIMEOUT_S = 2.0
_HEARD_FOR_S = 10.0
_heard: tuple[float, bool] | None = None
"""When the hub was asked last, and whether it answered."""
_TOY = "It knows the everyday Hindi and English of the demo and no more"


@dataclass(frozen=True, slots=True)
class Choice:
    """The models to start a service with; none for its own."""

    models: tuple[str, ...] = ()
    said: str = ""
    """What a person is to know of it."""
    warns: bool = False
    """Whether a person should look at that, as nobody has asked for it."""
    bundled: bool = False


def choose(named: str, engine: Engine, device: str, settings: Settings) -> Choice:
    """The models of a local service. Blocking. Raises UsageError where there are none."""
    kind, flag = _WORDS[engine.kind]
    bundled, ids = engine.bundled_model, engine.hub_ids
    if settings.offline and bundled and not named:
        return _bundled(settings, bundled, kind, flag)
    if named:
        hub_id = ids.get(ALIASES.get(named, named), named).partition("@")[0]
        _check_named(hub_id, flag, settings, bundled)
        return Choice((named,))
    defaults = engine.default_models.get(device, ())
    here = tuple(name for name in defaults if _is_here(ids.get(name, name)))
    if here == defaults or _hub_answers():
        return Choice()
    here = here or tuple(n for n in _BEST_FIRST if n in ids and _is_here(ids[n]))[:1]
    if here:
        said = f"the model hub does not answer: {', '.join(here)} is used, which is on this host"
        return Choice(here, said, warns=True)
    why = f"the model hub does not answer, and no {kind} model of it is on this host"
    return _bundled(settings, bundled, kind, flag, why)


def _is_here(hub_id: str) -> bool:
    """Whether all of a model is in the hub's cache on this host."""
    directory = newest_snapshot(hub_id)
    try:
        return directory is not None and not missing_files(directory)
    except (OSError, ValueError, KeyError):  # it is damaged
        return False


def _hub_answers() -> bool:
    """Whether the hub answers; both services of a command are told the same."""
    global _heard  # noqa: PLW0603 - one for the process
    now = time.monotonic()
    if _heard is None or now - _heard[0] > _HEARD_FOR_S:
        _heard = (now, hub_answers(os.environ, _HUB_TIMEOUT_S))
    return _heard[1]


def _check_named(hub_id: str, flag: str, settings: Settings, bundled: str) -> None:
    """Raises UsageError for a model that would have to be fetched and cannot be."""
    is_elsewhere = "/" not in hub_id or hub_id.startswith((".", "/", "~")) or hub_id.count("/") > 1
    if is_elsewhere or Path(hub_id).is_dir() or newest_snapshot(hub_id) is not None:
        return
    if settings.offline or _hub_answers():
        return  # what is wrong with it is told elsewhere
    raise UsageError(
        f"{flag}: the model {hub_id} is not on this host, and the model hub does not answer. Fetch"
        " it with `voxroute models pull` once there is a network; name a directory, or the bundled"
        f" {bundled}; or name a service that runs elsewhere"
    )


def _bundled(settings: Settings, name: str, kind: str, flag: str, why: str = "") -> Choice:
    """The bundled model, for --offline or for a reason. Raises UsageError where it is not here."""
    folder = bundled_models(settings)
    fetch = "fetch one with `voxroute models pull` once there is a network"
    if not name or folder is None or not (folder / name).is_dir():
        raise UsageError(
            f"{why or f'the bundled {kind} model {name} is not found'}; set VOXROUTE_MODELS_DIR to"
            f" the folder of the bundled models, {fetch}, name a directory with {flag}, or name a"
            " service that runs elsewhere"
        )
    said = (
        f"{why or 'offline'}: the bundled {'' if why else f'{kind} model '}{name} is used. {_TOY};"
        f" {fetch + ', or ' if why else ''}name a real one with {flag}"
    )
    return Choice((str(folder / name),), said, warns=bool(why), bundled=True)
