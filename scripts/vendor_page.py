"""Joins Preact and htm into the one file that the web page has of other makers.

    python scripts/vendor_page.py

npm fetches the packages in the versions below; the file and its licences go to the page's folder
`vendor/`. Nothing of it is changed but the names by which the three modules know each other.
"""

import hashlib
import io
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGES = {
    "preact@11.2.0": "3c4456766bd32b6b534d52bf4e9c2a29b33e7eedf6e96ed479300ba1a7888ebf",
    "htm@3.1.1": "2425b9bee11409177bcabc7f32e319926fc6690c1701c0b257c88bdff2d5ba90",
}
"""What is fetched, and the SHA-256 of its archive."""
FOLDER = Path(__file__).resolve().parents[1] / "gateway/voxroute_gateway/web/vendor"
_USED = (
    "Component", "Fragment", "createContext", "createRef", "h", "render",
    "useCallback", "useContext", "useEffect", "useId", "useLayoutEffect", "useMemo", "useReducer",
    "useRef", "useState",
)  # fmt: skip


def main() -> int:
    """Writes the file and the licences."""
    with tempfile.TemporaryDirectory() as folder:
        files = {name: _fetched(name, digest, Path(folder)) for name, digest in PACKAGES.items()}
    preact, htm = files.values()
    joined = "\n".join([
        f"// {' and '.join(PACKAGES)}, joined by scripts/vendor_page.py; licences beside it",
        f"const preact={_called(preact['dist/preact.mjs'])};",
        f"const hooks={_called(preact['hooks/dist/hooks.mjs'])};",
        f"const htm={_called(htm['dist/htm.module.js'])};",
        "const html=htm.bind(preact.h);",
        f"const {{{','.join(_USED)}}}={{...preact,...hooks}};",
        f"export{{html,{','.join(_USED)}}};",
        "",
    ])  # fmt: skip
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "preact-htm.js").write_text(joined, encoding="utf-8")
    for name, package in zip(("preact", "htm"), files.values(), strict=True):
        (FOLDER / f"{name}.LICENSE.txt").write_text(package["LICENSE"], encoding="utf-8")
    print(hashlib.sha256(joined.encode()).hexdigest())
    return 0


def _fetched(name: str, digest: str, folder: Path) -> dict[str, str]:
    """The text files of a package."""
    told = subprocess.run(
        ["npm", "pack", "--silent", name], check=True, capture_output=True, text=True, cwd=folder
    )
    data = (folder / told.stdout.strip()).read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        raise SystemExit(f"{name} is not what it was")
    found: dict[str, str] = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isfile() else None
            if content is not None and member.name.endswith((".mjs", ".module.js", "LICENSE")):
                found[member.name.removeprefix("package/")] = content.read().decode()
    return found


def _called(module: str) -> str:
    """A module as the call of a function that returns what it exports."""
    text = re.sub(r"\n//# sourceMappingURL=.*", "", module).strip()
    text = re.sub(
        r'import\{([^}]*)\}from"preact";',
        lambda found: f"const{{{found[1].replace(' as ', ':')}}}=preact;",
        text,
    )
    text = re.sub(
        r"export\{([^}]*)\};?$",
        lambda found: f"return{{{','.join(_exported(one) for one in found[1].split(','))}}}",
        text,
    )
    text = re.sub(r"export default ", "return ", text)
    return f"(()=>{{{text}}})()"


def _exported(clause: str) -> str:
    name, _, told = clause.partition(" as ")
    return f"{told or name}:{name}"


if __name__ == "__main__":
    sys.exit(main())
