# pyright: basic
"""Keeps the lock free of registry hosts: lock/uv.lock.in is the lock with placeholders for them.

uv.lock spells out the address of every file, which ties a checkout to one registry. What is
committed names none; `render` fills in the registry that pip itself uses by default, and `store`
takes it out again after `uv lock`. Runs under the interpreter of .tools, which has pip.
"""

import sys
from pathlib import Path

# pip's own default; there is no public name for it
from pip._internal.models.index import PyPI  # pyright: ignore[reportMissingImports]

ROOT = Path(__file__).resolve().parent.parent
RENDERED = ROOT / "uv.lock"
STORED = ROOT / "lock" / "uv.lock.in"
HOSTS = {
    "{{index}}": PyPI.simple_url,
    "{{files}}": f"https://{PyPI.file_storage_domain}",
}


def render() -> None:
    """Writes uv.lock from the stored lock."""
    text = STORED.read_text(encoding="utf-8")
    for placeholder, address in HOSTS.items():
        text = text.replace(placeholder, address)
    RENDERED.write_text(text, encoding="utf-8")


def store() -> None:
    """Writes the stored lock from uv.lock. Raises SystemExit where a host would remain."""
    text = RENDERED.read_text(encoding="utf-8")
    for placeholder, address in HOSTS.items():
        text = text.replace(address, placeholder)
    if "://" in text:
        line = next(line for line in text.splitlines() if "://" in line)
        sys.exit(f"uv.lock names a host besides the default registry's: {line.strip()}")
    STORED.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["render"]:
            render()
        case ["store"]:
            store()
        case _:
            sys.exit("usage: lock.py render|store")
