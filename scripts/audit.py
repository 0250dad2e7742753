"""Checks the locked runtime dependencies: known vulnerabilities, and licences.

    python scripts/audit.py REPORT [--osv-url URL]

writes the licences to REPORT (JSON) and asks OSV for advisories. Exit codes: 0, 1 for a finding, 3
where the advisories cannot be asked for and there is no other finding.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from license_expression import ExpressionError, get_spdx_licensing

ROOT = Path(__file__).resolve().parent.parent
UV = ROOT / ".tools" / "bin" / "uv"
OSV_URL = "https://api.osv.dev/v1/query"
EXIT_FINDING, EXIT_NOT_ASKED = 1, 3

ALLOWED = frozenset(
    {
        "0BSD",
        "Apache-2.0",
        "Apache-2.0 WITH LLVM-exception",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "CC0-1.0",
        "CNRI-Python",
        "HPND",
        "ISC",
        "MIT",
        "MIT-0",
        "MIT-CMU",
        "PSF-2.0",
        "Unlicense",
        "Zlib",
    }
)
"""Licences, by SPDX, that ask for no more than their notice."""

SPDX_OF = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Python Software Foundation License": "PSF-2.0",
}
"""What metadata calls them besides. A "BSD" without a number is one of the two allowed ones."""

_CUDA = "CUDA's run time, which torch links; its EULA allows use and passing on with a program"
_NO_METADATA = "its metadata names none; the licence is in its file LICENSE"
_FFMPEG = (
    "BSD itself; its wheels bring FFmpeg (LGPL) and the encoders x264 and x265 (GPL), which"
    " neither a service nor the command calls. Whoever passes the wheels on has to meet those"
    " licences"
)
_MPL = "used as it is; only changes to its own files would have to be published"

STATED = {
    # what metadata does not say
    "pyannote-audio": ("MIT", _NO_METADATA),
    "pyannote-core": ("MIT", _NO_METADATA),
    "pyannote-database": ("MIT", _NO_METADATA),
    "pyannote-metrics": ("MIT", _NO_METADATA),
    "pyannote-pipeline": ("MIT", _NO_METADATA),
    "pyannoteai-sdk": ("MIT", _NO_METADATA),
    "tiktoken": ("MIT", "its metadata holds the text in place of the name"),
    "torchcodec": ("BSD-3-Clause", _NO_METADATA),
    # what asks for more than a notice
    "av": (
        "BSD-3-Clause AND LGPL-3.0-or-later AND GPL-2.0-or-later",
        _FFMPEG,
    ),
    "certifi": ("MPL-2.0", _MPL),
    "docutils": (
        "BSD-2-Clause AND LicenseRef-Public-Domain AND GPL-3.0-or-later",
        "the GPL covers an Emacs mode that is not part of the program",
    ),
    "marisa-trie": (
        "MIT AND (BSD-2-Clause OR LGPL-2.1-or-later)",
        "of the two for its library BSD is taken",
    ),
    "tqdm": ("MPL-2.0 AND MIT", _MPL),
    **{
        f"nvidia-{part}-cu12": ("LicenseRef-NVIDIA-Proprietary", _CUDA)
        for part in (
            *("cublas", "cuda-cupti", "cuda-nvrtc", "cuda-runtime", "cudnn", "cufft", "cufile"),
            *("curand", "cusolver", "cusparse", "cusparselt", "nccl", "nvjitlink", "nvtx"),
        )
    },
}
"""Packages that were looked at by a person: licence, and why that is all right."""


@dataclass(frozen=True, slots=True)
class Licence:
    """A dependency's licence, and whether it may be used."""

    name: str
    version: str
    licence: str
    allowed: bool
    reason: str = ""
    """Why, where a person had to decide."""


def locked() -> list[str]:
    """The runtime dependencies as they are locked, "name==version ; marker", without our own."""
    flags = ["--frozen", "--no-dev", "--no-emit-workspace", "--no-hashes"]
    done = subprocess.run(
        [str(UV), "export", "--quiet", "--no-header", "--no-annotate", *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [line for line in done.stdout.splitlines() if line]


def names(requirements: Iterable[str]) -> set[str]:
    """The names of requirements, as the registry spells them."""
    return {normal(re.split(r"[=\s;\[]", line, maxsplit=1)[0]) for line in requirements}


def normal(name: str) -> str:
    """A package's name in the one spelling that counts."""
    return re.sub(r"[-_.]+", "-", name).lower()


def licences(wanted: set[str]) -> list[Licence]:
    """The licences of what is installed here of the wanted packages, by name."""
    done = subprocess.run(
        [sys.executable, "-m", "piplicenses", "--from=mixed", "--format=json", "--with-system"],
        capture_output=True,
        text=True,
        check=True,
    )
    found = cast("list[dict[str, Any]]", json.loads(done.stdout))
    return sorted(
        (
            judged(normal(entry["Name"]), entry["Version"], entry["License"])
            for entry in found
            if normal(entry["Name"]) in wanted
        ),
        key=lambda one: one.name,
    )


def judged(name: str, version: str, metadata: str) -> Licence:
    """A licence as metadata names it, or as it was stated for the package."""
    if name in STATED:
        licence, reason = STATED[name]
        return Licence(name, version, licence, allowed=True, reason=reason)
    licence = SPDX_OF.get(metadata.strip(), metadata.strip())
    return Licence(name, version, licence, allowed=is_allowed(licence))


def is_allowed(expression: str) -> bool:
    """Whether an SPDX expression asks for allowed licences alone; of a choice one is enough."""
    try:
        licensing: Any = get_spdx_licensing()  # its types are partly unknown
        parsed = licensing.parse(expression, validate=True)
    except ExpressionError:
        return False
    return parsed is not None and _holds(parsed)


def _holds(node: Any) -> bool:
    parts: Sequence[Any] = getattr(node, "args", ())
    if node.__class__.__name__ == "OR":
        return any(map(_holds, parts))
    if node.__class__.__name__ == "AND":
        return all(map(_holds, parts))
    return node.render() in ALLOWED


def advisories(requirements: Sequence[str], osv_url: str = OSV_URL) -> tuple[int, str]:
    """(0, EXIT_FINDING or EXIT_NOT_ASKED, what was said) of pip-audit about the dependencies."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.write("\n".join(requirements) + "\n")
        file.flush()
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pip_audit", "--requirement", file.name),
                *("--no-deps", "--disable-pip", "--progress-spinner", "off"),
                *("--vulnerability-service", "osv", "--osv-url", osv_url),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    said = (done.stdout + done.stderr).strip()
    if done.returncode == 0:
        return 0, said
    found = "known vulnerabilit" in said
    return (EXIT_FINDING, said) if found else (EXIT_NOT_ASKED, said.splitlines()[-1])


def main() -> int:
    """Writes the report, prints what was found; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path)
    parser.add_argument("--osv-url", default=OSV_URL)
    options = parser.parse_args()
    requirements = locked()
    wanted = names(requirements)
    found = licences(wanted)
    elsewhere = sorted(wanted - {one.name for one in found})
    options.report.parent.mkdir(parents=True, exist_ok=True)
    content = {"packages": [asdict(one) for one in found], "for_other_platforms": elsewhere}
    options.report.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    refused = [one for one in found if not one.allowed]
    for one in refused:
        print(f"{one.name} {one.version}: {one.licence!r} is no licence that is allowed here")
    print(f"{len(found)} licences in {options.report}, {len(refused)} of them not allowed")
    code, said = advisories(requirements, options.osv_url)
    print(said if code != EXIT_NOT_ASKED else f"no advisories: {said}")
    return EXIT_FINDING if refused else code


if __name__ == "__main__":
    sys.exit(main())
