"""What the engine that this one stands in for says of itself."""

import runpy
from pathlib import Path

import tests

_FOLDER = Path(tests.__path__[0]).parent / "services" / "translate" / "voxroute_translate"
ENGINE = runpy.run_path(str(_FOLDER / "__init__.py"))["ENGINE"]
