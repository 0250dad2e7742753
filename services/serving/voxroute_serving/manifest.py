"""What an engine says of itself to who starts it, without being imported."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Engine:
    """The object of an entry point of the group `voxroute.engines`.

    The module that holds it imports no library, and nothing else of its package.
    """

    name: str
    """What `--backend` calls it; the name that the service tells begins with it."""
    kind: Literal["asr", "translate"]
    """The contract that it serves."""
    module: str
    """Serves as `python -m` this one; has an `ahead` if there is something to import ahead."""
    devices: tuple[str, ...]
    """The kinds of hardware, "mps", "cuda" and "cpu", that work is routed to it for."""
    on_request: tuple[str, ...] = ()
    """Those that it runs on as well, where a person names it and it has none of the others."""
    libraries: tuple[str, ...] = ()
    """Packages that may be missing though its own is there, by the names to import them by."""
    flags: frozenset[str] = frozenset()
    """The flags of its service, of those that not every service has and a job may need."""
    converters: Mapping[str, str] = field(default_factory=dict[str, str])
    """The formats that it converts models to, and MODULE:FUNCTION for each: a Prepare of
    voxroute_serving.models.preparation."""
    hub_ids: Mapping[str, str] = field(default_factory=dict[str, str])
    """Well-known names, and the models of the hub behind them."""
    default_models: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, Any])
    """What it loads where nobody names a model, by device: well-known names or hub ids."""
    bundled_model: str = ""
    """The one of models/ that takes their place where nothing may be fetched."""
