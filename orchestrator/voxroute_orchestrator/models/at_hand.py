"""Which models a local service gets: those that are named, or its own, or else what is here.

The hub is asked only where a model would have to come from it, and for two seconds at most. A model
that a person has named is never replaced by another.
"""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from voxroute_orchestrator import modules
from voxroute_orchestrator.errors import UsageError
from voxroute_orchestrator.models.hub import HUB_IDS, missing_files
from voxroute_orchestrator.models.hub_access import hub_answers
from voxroute_orchestrator.models.prechecks import newest_snapshot
from voxroute_orchestrator.settings import BUNDLED_ASR, BUNDLED_TRANSLATE, Settings, bundled_models
from voxroute_serving.asr.whisper.family import ALIASES

# What the services choose themselves; kept here because importing them takes seconds, and compared
# with their own by a test.
SPEECH_DEFAULTS: Mapping[str, Mapping[str, str]] = {
    modules.ASR_WHISPERX: {"cpu": "small", "cuda": "large-v3"},
    modules.ASR_MLX: {"cpu": "small", "cuda": "large-v3", "mps": "large-v3-turbo"},
}
TRANSLATION_DEFAULTS = (
    "ai4bharat/indictrans2-indic-en-dist-200M",
    "ai4bharat/indictrans2-en-indic-dist-200M",
    "ai4bharat/indictrans2-indic-indic-dist-320M",
    "facebook/nllb-200-distilled-600M",
)

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


def speech(named: str, module: str, device: str, settings: Settings) -> Choice:
    """The model of a local speech service. Blocking. Raises UsageError where there is none."""
    kind, flag = "speech", "--model"
    if settings.offline and not named:
        return _bundled(settings, BUNDLED_ASR, kind, flag)
    ids = HUB_IDS["mlx" if module == modules.ASR_MLX else "whisperx"]
    if named:
        _check_named(ids.get(ALIASES.get(named, named), named), flag, settings, BUNDLED_ASR)
        return Choice((named,))
    default = SPEECH_DEFAULTS.get(module, {}).get(device, "small")
    if _is_here(ids[default]) or _hub_answers():
        return Choice()
    for name in _BEST_FIRST:
        if name in ids and _is_here(ids[name]):
            said = f"the model hub does not answer: {name} is used, which is on this host"
            return Choice((name,), said, warns=True)
    return _instead(settings, BUNDLED_ASR, kind, flag)


def translation(named: str, settings: Settings) -> Choice:
    """The models of a local translation service. Blocking. Raises UsageError for none."""
    kind, flag = "translation", "--translate-model"
    if settings.offline and not named:
        return _bundled(settings, BUNDLED_TRANSLATE, kind, flag)
    if named:
        _check_named(named.partition("@")[0], flag, settings, BUNDLED_TRANSLATE)
        return Choice((named,))
    here = tuple(name for name in TRANSLATION_DEFAULTS if _is_here(name))
    if here == TRANSLATION_DEFAULTS or _hub_answers():
        return Choice()
    if here:
        said = f"the model hub does not answer: {', '.join(here)} translate, which are on this host"
        return Choice(here, said, warns=True)
    return _instead(settings, BUNDLED_TRANSLATE, kind, flag)


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


def _bundled(settings: Settings, name: str, kind: str, flag: str) -> Choice:
    """The bundled model, which --offline asks for. Raises UsageError where it is not here."""
    folder = _folder(settings, name)
    if folder is None:
        raise UsageError(
            f"the bundled {kind} model {name} is not found; set VOXROUTE_MODELS_DIR to the folder"
            f" that holds it, or name a model that is on this machine with {flag}"
        )
    said = f"offline: the bundled {kind} model {name} is used. {_TOY}; name a real one with {flag}"
    return Choice((str(folder),), said, bundled=True)


def _instead(settings: Settings, name: str, kind: str, flag: str) -> Choice:
    """The bundled model, as nothing else can be had. Raises UsageError where it is not here."""
    why = f"the model hub does not answer, and no {kind} model of it is on this host"
    folder = _folder(settings, name)
    if folder is None:
        raise UsageError(
            f"{why}. Fetch one with `voxroute models pull` once there is a network, name a"
            f" directory with {flag}, or name a service that runs elsewhere"
        )
    said = (
        f"{why}: the bundled {name} is used. {_TOY}; fetch a real one with `voxroute models pull`"
        f" once there is a network, or name a directory with {flag}"
    )
    return Choice((str(folder),), said, warns=True, bundled=True)


def _folder(settings: Settings, name: str) -> Path | None:
    folder = bundled_models(settings)
    return folder / name if folder is not None and (folder / name).is_dir() else None
