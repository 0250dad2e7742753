"""What this host is best set up with, found out once and kept in `hardware_cache.json`.

`recommend` is a pure function of the host and of the models that can be had. The file is a cache:
it is made again when it is old, or when the host or its driver is another one.
"""

import json
import math
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import psutil

from voxroute_orchestrator import __version__
from voxroute_orchestrator.engines import installed
from voxroute_orchestrator.files import write_atomic
from voxroute_orchestrator.fleet.hardware import Host, detect, with_memory
from voxroute_orchestrator.models.hub_access import hub_answers, hub_cache
from voxroute_orchestrator.settings import BUNDLED_ASR, BUNDLED_TRANSLATE

SCHEMA = "voxroute.hardware/1"
CACHE_NAME = "hardware_cache.json"
MAX_AGE = timedelta(days=7)
MAX_AGE_WITHOUT_HUB = timedelta(minutes=10)  # a network comes back sooner than hardware changes

_GB = 1024**3
_NOMINAL = 0.9  # a "6 GB" card or a "16 GB" host shows up to a tenth less, the firmware's share
_METAL_SHARE = 2 / 3  # of a Mac's memory, which Metal takes without swapping
_USABLE = 0.8  # of the free memory; the rest is for what else runs
_MAX_BATCH = {"cpu": 8, "gpu": 16}  # more gains nothing: the processors are busy
_HUB_TIMEOUT_S = 3.0

# (weights in 16 bit, one more window of a batch), GB: from faster-whisper's own benchmark of
# large-v2 (4.5 GB alone and 6.1 GB with batch 8, in float16), the rest in proportion to the models
_MODEL_GB: Mapping[str, tuple[float, float]] = {
    "large-v3": (3.1, 0.22),
    "medium": (1.5, 0.16),
    "base": (0.2, 0.06),
    BUNDLED_ASR: (0.1, 0.05),
}
_SMALLER = ("large-v3", "medium", "base")


@dataclass(frozen=True, slots=True)
class Availability:
    """Which models a host can get."""

    hub: bool
    """Whether the model hub answers."""
    cached: frozenset[str] = frozenset()
    """Well-known names of speech models in the hub's cache on this host."""
    translation: bool = False
    """Whether a translation model is in the cache."""
    bundled: bool = True
    """Whether the bundled models are here."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What to run on a host, and why."""

    whisper_model: str
    compute_type: str
    batch_size: int
    whisper_backend: str
    whisperx_device: str
    """"mps", "cuda" or "cpu", as the job file's WHISPERX_DEVICE."""
    indictrans2_device: str
    translate_model: str = ""
    """"" leaves the choice to the translation service."""
    notes: tuple[str, ...] = ()
    """Sentences for a person."""


def recommend(host: Host, models: Availability) -> Recommendation:
    """The settings that suit a host.

    1. A GPU of 6 GB or more: large-v3 in float16; of 4 GB: medium; a smaller one: base.
    2. Without a GPU that a service can use, 16 GB of memory: large-v3 in int8; 8 GB: medium; less:
       base.
    3. The engine is the first for the accelerator; a Mac without one for its GPU counts as a CPU.
    4. Where that model is neither in the cache nor to be had from the hub: the largest smaller one
       in the cache, else the bundled one.
    5. As many windows in a batch as the free memory holds.
    """
    notes: list[str] = []
    engine = host.engine("asr", host.accelerator, "cpu")
    metal = engine is not None and "mps" in engine.devices and host.mps
    gpu = host.cuda or metal
    if host.mps and not metal:
        notes.append(
            "MPS device detected, but MLX cannot be imported; speech is recognised on the CPU."
            " Install voxroute-asr-mlx to use the Apple GPU"
        )
    if host.gpu_problem:
        notes.append(f"{host.gpu_problem}; the CPU is used. Reinstall the driver to use the GPU")
    if gpu:
        total, free = gpu_memory(host)
        model = _by_memory(total, large=6, medium=4)
    else:
        total, free = host.memory_bytes, host.free_bytes
        model = _by_memory(total, large=16, medium=8)
    model, translate_model, said = _that_can_be_had(model, models)
    notes += said
    compute = "float16" if gpu else "int8"
    batch = _batch(model, compute, free, "gpu" if gpu else "cpu")
    if batch == 1 and model != BUNDLED_ASR:
        notes.append(f"only {free / _GB:.1f} GB of memory are free, so windows are decoded singly")
    return Recommendation(
        whisper_model=model,
        compute_type=compute,
        batch_size=batch,
        whisper_backend=engine.name if engine is not None else "auto",
        whisperx_device=host.accelerator,
        indictrans2_device=host.accelerator,
        translate_model=translate_model,
        notes=tuple(notes),
    )


def gpu_memory(host: Host) -> tuple[int, int]:
    """(total, free) bytes of the GPU that a service would use; zeros where there is none."""
    if host.cuda:
        return host.gpus[0].memory_bytes, host.gpus[0].free_bytes
    if host.mps:
        total = int(host.memory_bytes * _METAL_SHARE)
        return total, min(total, host.free_bytes)
    return 0, 0


def _by_memory(total: int, *, large: float, medium: float) -> str:
    if total >= large * _GB * _NOMINAL:
        return "large-v3"
    return "medium" if total >= medium * _GB * _NOMINAL else "base"


def _that_can_be_had(model: str, models: Availability) -> tuple[str, str, list[str]]:
    """The speech model, the translation model, and what to say about them."""
    notes: list[str] = []
    translate = ""
    if models.hub:
        return model, translate, notes
    why = "the model hub cannot be reached"
    if not models.translation and models.bundled:
        translate = BUNDLED_TRANSLATE
        notes.append(f"{why} and no translation model is in its cache: {BUNDLED_TRANSLATE} is used")
    if model in models.cached:
        return model, translate, notes
    for smaller in _SMALLER[_SMALLER.index(model) + 1 :]:
        if smaller in models.cached:
            notes.append(f"{why}: {smaller} is used, which is in its cache; {model} would fit")
            return smaller, translate, notes
    if not models.bundled:
        notes.append(f"{why} and {model} is not in its cache: it must be brought here by hand")
        return model, translate, notes
    notes.append(
        f"{why} and no speech model is in its cache: the bundled {BUNDLED_ASR} is used. It knows"
        f" the everyday Hindi and English of the demo and no more; {model} would fit this host"
    )
    return BUNDLED_ASR, translate, notes


def _batch(model: str, compute_type: str, free: int, kind: str) -> int:
    """The power of two of windows that fits into the free memory, bytes."""
    weights_gb, window_gb = _MODEL_GB[model]
    if compute_type == "int8":
        weights_gb /= 2
    windows = (free / _GB * _USABLE - weights_gb) / window_gb
    if windows < 1:
        return 1
    return min(_MAX_BATCH[kind], 2 ** int(math.log2(windows)))


def availability(environment: Mapping[str, str], *, offline: bool, bundled: bool) -> Availability:
    """What can be had here: asks the hub once, for three seconds at most."""
    cache = hub_cache(environment)
    names = {path.name.lower() for path in cache.glob("models--*") if any(path.glob("snapshots/*"))}
    cached = {
        model
        for model in _SMALLER
        if any("whisper" in n and n.endswith((f"-{model}", f"-{model}-mlx")) for n in names)
    }
    kinds = ("indictrans2", "nllb", "m2m100")
    return Availability(
        hub=not offline and hub_answers(environment, _HUB_TIMEOUT_S),
        cached=frozenset(cached),
        translation=any(kind in name for name in names for kind in kinds),
        bundled=bundled,
    )


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """What was found out, now or earlier."""

    facts: Mapping[str, Any]
    """The file's content."""
    recommended: Recommendation
    fresh: bool
    """Whether it was found out now."""


def bootstrap(
    folder: Path,
    environment: Mapping[str, str],
    *,
    offline: bool = False,
    bundled: bool = True,
    refresh: bool = False,
) -> Bootstrap:
    """The host's facts and recommendation, out of the cache in the folder unless it is stale.

    Raises OutputError where the cache cannot be written.
    """
    path = folder / CACHE_NAME
    fingerprint = _fingerprint(offline=offline, bundled=bundled)
    if not refresh and (known := _read(path, fingerprint)) is not None:
        return Bootstrap(known, _recommended(known), fresh=False)
    host = with_memory(detect())
    models = availability(environment, offline=offline, bundled=bundled)
    facts = describe(host, models, fingerprint)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    return Bootstrap(facts, _recommended(facts), fresh=True)


def describe(host: Host, models: Availability, fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    """The content of the cache file."""
    recommended = asdict(recommend(host, models))
    notes = recommended.pop("notes")
    total, free = gpu_memory(host)
    name = host.chip or "Apple GPU" if host.mps else host.gpus[0].name if host.cuda else None
    return {
        "schema": SCHEMA,
        "detected_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": dict(fingerprint),
        "gpu_type": host.accelerator,
        "gpu_name": name,
        "gpu_memory_gb": _gb(total),
        "gpu_memory_free_gb": _gb(free),
        "gpu_problem": host.gpu_problem or None,
        "gpus": [{"name": g.name, "memory_gb": _gb(g.memory_bytes)} for g in host.gpus],
        "mlx_available": any(engine.name == "mlx" for engine in host.engines),
        "cpu_cores": host.cpus,
        "memory_gb": _gb(host.memory_bytes),
        "memory_free_gb": _gb(host.free_bytes),
        "hub_reachable": models.hub,
        "cached_models": sorted(models.cached),
        "recommended_settings": recommended,
        "notes": list(notes),
    }


def _gb(size: int) -> float:
    return round(size / _GB, 1)


def _recommended(facts: Mapping[str, Any]) -> Recommendation:
    return Recommendation(**facts["recommended_settings"], notes=tuple(facts["notes"]))


def _fingerprint(*, offline: bool, bundled: bool) -> dict[str, Any]:
    """What makes the cache stale when it changes; cheap to find out."""
    try:
        driver = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8").split("\n", 1)[0]
    except OSError:
        driver = None
    return {
        "name": platform.node(),
        "system": platform.system(),
        "machine": platform.machine(),
        "processors": psutil.cpu_count(),
        "memory_gb": _gb(psutil.virtual_memory().total),
        "nvidia_driver": driver,
        "engines": [engine.name for engine in installed()],
        "offline": offline,
        "bundled_models": bundled,
        "voxroute": __version__,
    }


def _read(path: Path, fingerprint: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The file's content; None where it is missing, damaged, old, or of another host."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        facts = cast("dict[str, Any]", content)
        age = datetime.now(UTC) - datetime.fromisoformat(facts["detected_at"])
        lonely = not facts["hub_reachable"] and not fingerprint["offline"]
        same = facts["schema"] == SCHEMA and facts["host"] == dict(fingerprint)
        _recommended(facts)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    oldest = MAX_AGE_WITHOUT_HUB if lonely else MAX_AGE
    return facts if same and timedelta() <= age <= oldest else None


def report(found: Bootstrap, path: Path) -> list[str]:
    """What was found, as lines for a person."""
    facts, best = found.facts, found.recommended
    gpu = facts["gpu_name"] or "none"
    if facts["gpu_memory_gb"]:
        gpu += f", {facts['gpu_memory_gb']} GB ({facts['gpu_memory_free_gb']} GB free)"
    lines = [
        f"device: {facts['gpu_type']}",
        f"GPU: {gpu}",
        f"MLX: {'importable' if facts['mlx_available'] else 'not importable'}",
        (
            f"CPU: {facts['cpu_cores']} cores, {facts['memory_gb']} GB of memory"
            f" ({facts['memory_free_gb']} GB free)"
        ),
        f"model hub: {'reachable' if facts['hub_reachable'] else 'not reachable'}",
        (
            f"recommended: {best.whisper_model} {best.compute_type} with {best.whisper_backend},"
            f" batch {best.batch_size}"
        ),
    ]
    lines += [f"note: {note}" for note in best.notes]
    return [*lines, f"{'written to' if found.fresh else 'as found earlier:'} {path}"]
