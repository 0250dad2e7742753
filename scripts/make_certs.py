"""A development CA, and certificates of it for a service and for a client.

    python scripts/make_certs.py out/certs

writes ca.pem, server.pem, server.key, client.pem and client.key. The service's certificate is for
localhost, 127.0.0.1 and ::1; the client's names it "client". Each run makes a new CA, whose key is
kept nowhere. For trying TLS out: a service that others use has a certificate of a CA that they
know.
"""

import os
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

SERVER_NAMES = ("localhost", "127.0.0.1", "::1")
VALID = timedelta(days=365)
_CLOCK_SKEW = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate, with those between it and its CA, and its private key; PEM."""

    cert: bytes
    key: bytes

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """The paths of NAME.pem and of NAME.key, which only this user can read."""
        cert, key = folder / f"{name}.pem", folder / f"{name}.key"
        cert.write_bytes(self.cert)
        with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(self.key)
        return cert, key


class Authority:
    """A CA that exists in memory only."""

    def __init__(self) -> None:
        self._ca = trustme.CA(organization_name="voxroute development")
        self.cert = self._ca.cert_pem.bytes()

    def issue(
        self,
        *names: str,
        common_name: str | None = None,
        valid: timedelta = VALID,
        since: datetime | None = None,
    ) -> Certificate:
        """A certificate for host names and addresses; good for clients too."""
        begins = since or datetime.now(UTC) - _CLOCK_SKEW
        leaf = self._ca.issue_cert(
            *names, common_name=common_name, not_before=begins, not_after=begins + valid
        )
        chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
        return Certificate(chain, leaf.private_key_pem.bytes())


def make(folder: Path) -> None:
    """Writes the files. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    authority = Authority()
    (folder / "ca.pem").write_bytes(authority.cert)
    authority.issue(*SERVER_NAMES, common_name="localhost").write(folder, "server")
    authority.issue("client", common_name="client").write(folder, "client")


if __name__ == "__main__":
    if len(sys.argv) != 2:  # noqa: PLR2004 - the program and its one argument
        sys.exit("usage: make_certs.py FOLDER")
    make(Path(sys.argv[1]))
    print(f"a development CA and certificates are in {sys.argv[1]}, good for {VALID.days} days")
