"""What every service speaks of: models, devices, options that an engine does not honour."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Stop = Callable[[], bool]
"""True once nobody waits for the result any more; an engine may then return early."""
Activity = Callable[[str], None]
"""Takes what is being done, as a few words for a person."""


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """The hardware that runs the models; memory in bytes, None where it is not known."""

    kind: Literal["cpu", "cuda", "mps"]
    name: str
    compute_type: str
    memory_total_bytes: int | None = None
    memory_free_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class ModelRef:
    """The model that answers: engine, name as a request gives it, revision of its weights."""

    engine: str
    id: str
    revision: str


@dataclass(frozen=True, slots=True)
class IgnoredOption:
    """An option that the engine cannot honour: path in the config message, and why."""

    field: str
    reason: str
