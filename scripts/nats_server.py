"""Fetches nats-servers for tests into .tools: the package of a Debian with a new enough one.

    python -m scripts.nats_server [SUITE...]

SUITE is `trixie` by default (2.10.27), which goes to .tools/nats; `sid` has the newest, and goes to
.tools/nats-sid, as any other suite to a folder of its name. The machine's own apt does it, from
the mirror that it is set up with, with Debian's keys, in folders of its own: nothing is installed,
and nothing of the machine's apt is changed. Needs apt, dpkg-deb and debian-archive-keyring.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_TOOLS = ROOT / ".tools"
_USUAL = "trixie"
_PROGRAM = Path("usr", "sbin", "nats-server")
SERVER = _TOOLS / "nats" / _PROGRAM
NEWEST = _TOOLS / "nats-sid" / _PROGRAM
_KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_LEAST = (2, 10, 27)


def main() -> int:
    """The exit code; what went wrong is said."""
    return max(_fetch(suite) for suite in sys.argv[1:] or [_USUAL])


def _fetch(suite: str) -> int:
    folder = SERVER.parents[2] if suite == _USUAL else _TOOLS / f"nats-{suite}"
    server = folder / _PROGRAM
    try:
        mirror = _mirror()
        with tempfile.TemporaryDirectory(prefix="voxroute-apt-") as scratch:
            package = _downloaded(Path(scratch), mirror, suite)
            folder.mkdir(parents=True, exist_ok=True)
            _run("dpkg-deb", "-x", str(package), str(folder))
        print(f"{server.relative_to(ROOT)}: {_run(str(server), '--version').strip()}")
    except subprocess.CalledProcessError as error:
        print(f"{' '.join(error.cmd)} has failed:\n{error.stderr}", file=sys.stderr)
    except (OSError, LookupError) as error:
        print(error, file=sys.stderr)
    else:
        if version(server) >= _LEAST:
            return 0
        print(f"that of {suite} is too old; name another suite", file=sys.stderr)
    return 1


def version(server: Path) -> tuple[int, ...]:
    """The version of a nats-server. Raises OSError."""
    said = _run(str(server), "--version")
    return tuple(int(part) for part in said.split()[-1].lstrip("v").split("-")[0].split("."))


def _mirror() -> str:
    """Where this machine has its packages of Debian from. Raises LookupError."""
    asked = ("apt-get", "indextargets", "--format", "$(LABEL) $(COMPONENT) $(REPO_URI)")
    for line in _run(*asked, "Created-By: Packages").splitlines():
        label, component, uri = line.rsplit(" ", 2)
        if (label, component) == ("Debian", "main"):
            return uri
    raise LookupError("apt knows no mirror of Debian; `apt-get update` on a Debian tells it")


def _downloaded(folder: Path, mirror: str, suite: str) -> Path:
    """The package. Raises OSError, CalledProcessError."""
    sources = folder / "sources.list"
    sources.write_text(f"deb [signed-by={_KEYS}] {mirror} {suite} main\n", encoding="utf-8")
    for name in ("parts", "lists/partial", "cache/archives/partial", "trusted"):
        (folder / name).mkdir(parents=True)
    options = {
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": folder / "parts",
        "Dir::Etc::TrustedParts": folder / "trusted",
        "Dir::State::Lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "Acquire::Languages": "none",
        "APT::Sandbox::User": "",  # the folder is this user's alone
    }
    flags = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    _run("apt-get", *flags, "-q", "update")
    _run("apt-get", *flags, "-q", "download", "nats-server", cwd=folder)
    return next(folder.glob("nats-server_*.deb"))


def _run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=cwd)
    return done.stdout


if __name__ == "__main__":
    raise SystemExit(main())
