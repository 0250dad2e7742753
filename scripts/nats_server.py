"""Fetches a nats-server for tests into .tools/nats: the package of a Debian with a new enough one.

    python -m scripts.nats_server [SUITE]

SUITE is `trixie` by default (2.10.27); `sid` has the newest. The machine's own apt does it, from
the mirror that it is set up with, with Debian's keys, in folders of its own: nothing is installed,
and nothing of the machine's apt is changed. Needs apt, dpkg-deb and debian-archive-keyring.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SERVER = ROOT / ".tools" / "nats" / "usr" / "sbin" / "nats-server"
_KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_LEAST = (2, 10, 27)


def main() -> int:
    """The exit code; what went wrong is said."""
    suite = sys.argv[1] if len(sys.argv) > 1 else "trixie"
    try:
        mirror = _mirror()
        with tempfile.TemporaryDirectory(prefix="voxroute-apt-") as folder:
            package = _downloaded(Path(folder), mirror, suite)
            SERVER.parents[2].mkdir(parents=True, exist_ok=True)
            _run("dpkg-deb", "-x", str(package), str(SERVER.parents[2]))
        print(f"{SERVER.relative_to(ROOT)}: {_run(str(SERVER), '--version').strip()}")
    except subprocess.CalledProcessError as error:
        print(f"{' '.join(error.cmd)} has failed:\n{error.stderr}", file=sys.stderr)
    except (OSError, LookupError) as error:
        print(error, file=sys.stderr)
    else:
        if version(SERVER) >= _LEAST:
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
