"""Engines are named by their manifests; what they share and what calls them names none."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("orchestrator/voxroute_orchestrator", "services/serving/voxroute_serving")
NAME = re.compile(r"whisper_?x|mlx", re.IGNORECASE)
ALLOWED = {
    "orchestrator/voxroute_orchestrator/engines.py": "tells of what is not installed",
    "orchestrator/voxroute_orchestrator/fleet/warm.py": "variables that libraries read",
    "orchestrator/voxroute_orchestrator/workflow/bootstrap.py": "fields of its file, and reports",
    "orchestrator/voxroute_orchestrator/workflow/folder.py": "settings of its file, and its log",
}


def _code(path: Path) -> str:
    """The module without its comments and docstrings, also those of attributes."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [one for one in body if not _is_text(one)] or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.unparse(tree)


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def test_nothing_but_an_engine_s_own_folder_names_it() -> None:
    """One that is named elsewhere is one that a further engine is not equal to."""
    named = {
        str(path.relative_to(ROOT))
        for folder in PRODUCT
        for path in (ROOT / folder).rglob("*.py")
        if NAME.search(_code(path))
    }
    assert named == ALLOWED.keys()
