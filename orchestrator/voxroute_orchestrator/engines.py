"""The engines that this host can start, as the manifests of their packages tell."""

import contextlib
import functools
import importlib.util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voxroute_serving.manifest import Engine

OURS = {"mps": "voxroute_asr_mlx", "cuda": "voxroute_asr_whisperx", "cpu": "voxroute_asr_whisperx"}
"""By device, the module that recognises speech where several could, and is missed where none can:
what is not installed has no manifest that could tell."""
TRANSLATE = "voxroute_translate"


def name_of(module: str) -> str:
    """What `--backend` calls one of ours."""
    return module.rpartition("_")[2]


OUR_NAMES = tuple(dict.fromkeys(name_of(module) for module in OURS.values()))


@functools.cache
def installed() -> tuple["Engine", ...]:
    """Those whose packages and libraries are here, none of which is imported; ours first."""
    from importlib.metadata import entry_points  # noqa: PLC0415 - few commands start a service

    found: list[Engine] = []
    for point in entry_points(group="voxroute.engines"):
        with contextlib.suppress(ImportError):  # of a package that is gone, or half there
            found.append(point.load())
    whole = [e for e in found if all(map(importlib.util.find_spec, e.libraries))]
    return tuple(sorted(whole, key=lambda e: (e.module not in OURS.values(), e.name)))


def backend_name(backend: str) -> str:
    """What `--backend` names, or "auto". Raises ValueError with what there is."""
    known = ("auto", *OUR_NAMES)
    if backend not in known:
        known = dict.fromkeys([*known, *(e.name for e in installed() if e.kind == "asr")])
    if backend not in known:
        raise ValueError(f"there is no engine {backend!r} here; there are {', '.join(known)}")
    return backend
