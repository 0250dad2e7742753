"""Generates the Python code of protos/ next to each .proto file, or checks that it is up to date.

`python scripts/generate_protos.py` writes; `--check` exits 1 and names the files that differ.
"""

import argparse
import filecmp
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

PROTOS = Path(__file__).resolve().parent.parent / "protos"


def generate(target: Path) -> None:
    """Runs protoc over every contract, writing modules, stubs and type stubs below `target`."""
    sources = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))
    subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"--proto_path={PROTOS}",
            f"--proto_path={files('grpc_tools') / '_proto'}",
            f"--python_out={target}",
            f"--pyi_out={target}",
            f"--grpc_python_out={target}",
            f"--mypy_grpc_out=quiet:{target}",
            *sources,
        ],
        check=True,
        cwd=PROTOS,
    )


def generated_below(root: Path) -> set[Path]:
    """Relative paths of all generated files below `root`."""
    return {path.relative_to(root) for path in root.rglob("*_pb2*.py*") if path.suffix != ".pyc"}


def main() -> int:
    """Returns 0, or 1 where `--check` finds a difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 on a difference"
    )
    if not parser.parse_args().check:
        for stale in generated_below(PROTOS):
            (PROTOS / stale).unlink()
        generate(PROTOS)
        return 0
    with tempfile.TemporaryDirectory() as directory:
        fresh = Path(directory)
        generate(fresh)
        names = generated_below(fresh) | generated_below(PROTOS)
        _, different, missing = filecmp.cmpfiles(
            fresh, PROTOS, [str(name) for name in sorted(names)], shallow=False
        )
    for name in [*different, *missing]:
        print(f"protos/{name} is not what its .proto generates: run `make protos`", file=sys.stderr)
    return 1 if different or missing else 0


if __name__ == "__main__":
    sys.exit(main())
