"""The map, docs/architecture.md, against the tree that it describes."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PACKAGES = {
    "serving": "services/serving/voxroute_serving",
    "asr_mlx": "services/asr_mlx/voxroute_asr_mlx",
    "asr_whisperx": "services/asr_whisperx/voxroute_asr_whisperx",
    "translate": "services/translate/voxroute_translate",
    "orchestrator": "orchestrator/voxroute_orchestrator",
    "gateway": "gateway/voxroute_gateway",
}
MOST_MODULES = 15
MOST_LINES = 600
# tables and texts, not code
DATA = {"services/serving/voxroute_serving/asr/text/invented_texts.py"}


def _modules() -> list[Path]:
    """The modules of the product, relative to the repository."""
    found = [path for folder in PACKAGES.values() for path in (ROOT / folder).rglob("*.py")]
    return sorted(path.relative_to(ROOT) for path in found)


MODULES = _modules()
FOLDERS = sorted({path.parent for path in MODULES})


def _section(title: str) -> str:
    """What stands below a heading, up to the next one of its level."""
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def _hops() -> list[tuple[str, str]]:
    """File and name of each hop of both walks, by the numbered lines."""
    walks = _section("A segment, from the device to the journal")
    walks += _section("A job, from the command to the files")
    lines = re.findall(r"^\d+\. (.*)$", walks, re.MULTILINE)
    found = [re.match(r"`([\w/]+\.py)` `([\w.]+)`: ", line) for line in lines]
    assert all(found), [line for line, hop in zip(lines, found, strict=True) if not hop]
    return [(hop[1], hop[2]) for hop in found if hop]


def _names(path: Path) -> set[str]:
    """The functions and classes of a module, and the methods of its classes, as Class.method."""
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {
                f"{node.name}.{method.name}"
                for method in node.body
                if isinstance(method, (ast.FunctionDef, ast.AsyncFunctionDef))
            }
    return names


def test_every_folder_of_the_product_is_on_the_map() -> None:
    """One that nobody can say a sentence about is no folder."""
    folders = _section("The folders")
    rows = set(re.findall(r"^\| `([\w/]+)/` \| .+ \|$", folders, re.MULTILINE))
    headings = set(re.findall(r"^### `([\w/]+)/`$", folders, re.MULTILINE))
    below = {f"{heading}/{row}" for heading in headings for row in rows}
    told = rows | headings | below
    assert not [str(folder) for folder in FOLDERS if str(folder) not in told]
    there = {str(folder) for folder in FOLDERS}
    gone = [row for row in rows if not {row, *(f"{one}/{row}" for one in headings)} & there]
    assert not gone


def test_no_folder_holds_more_than_a_person_keeps_in_mind() -> None:
    """Fifteen modules; one more, and it is about two things."""
    counts = {str(folder): sum(path.parent == folder for path in MODULES) for folder in FOLDERS}
    assert not {folder: n for folder, n in counts.items() if n > MOST_MODULES}


def test_no_module_is_longer_than_a_person_reads_at_once() -> None:
    """Six hundred lines, but for tables."""
    lengths = {
        str(path): len((ROOT / path).read_text(encoding="utf-8").splitlines())
        for path in MODULES
        if str(path) not in DATA
    }
    assert not {name: n for name, n in lengths.items() if n > MOST_LINES}


@pytest.mark.parametrize(("file", "name"), _hops())
def test_what_the_walks_pass_is_there(file: str, name: str) -> None:
    """A hop names a file and what in it is passed."""
    package, _, rest = file.partition("/")
    path = ROOT / PACKAGES[package] / rest
    assert path.is_file()
    assert name in _names(path)


def test_the_layers_on_the_map_are_those_that_are_held() -> None:
    """In the order of pyproject.toml, from the top."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    never = " ".join(_section("Never").split())
    for contract in settings["tool"]["importlinter"]["contracts"]:
        if contract["type"] != "layers":
            continue
        (package,) = contract["containers"]
        layers = [layer.split(" : ") for layer in contract["layers"] if layer != "__main__"]
        told = never.split(f"Within `{package}`")[1].split(".")[0].split(":")[1]
        assert re.findall(r"`(\w+)`", told) == [name for layer in layers for name in layer]
