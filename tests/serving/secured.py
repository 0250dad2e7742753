"""What tests of security share: certificates as `make certs` makes them, tokens, channels."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from scripts.make_certs import SERVER_NAMES, Authority, Certificate
from voxroute_serving.security import watched

ALICE = "alices-token-0123456789"
BOB = "bobs-token-0123456789"


def bearer(token: str) -> list[tuple[str, str]]:
    """The metadata of a call with a token."""
    return [("authorization", f"Bearer {token}")]


@dataclass
class Certificates:
    """A CA, and a service's certificate of it in files."""

    folder: Path
    authority: Authority = field(default_factory=Authority)

    def __post_init__(self) -> None:
        (self.folder / "ca.pem").write_bytes(self.authority.cert)
        self.serve(self.authority.issue(*SERVER_NAMES))

    def serve(self, certificate: Certificate) -> None:
        """Makes it the service's."""
        certificate.write(self.folder, "server")

    @property
    def settings(self) -> dict[str, Any]:
        """The service's settings for it."""
        return {
            "tls_cert": self.folder / "server.pem",
            "tls_key": self.folder / "server.key",
        }

    @property
    def mutual(self) -> dict[str, Any]:
        """The same, with certificates asked of clients."""
        return {**self.settings, "tls_client_ca": self.folder / "ca.pem"}

    def channel(
        self,
        address: str,
        client: Certificate | None = None,
        *,
        ca: bytes | None = None,
        options: list[tuple[str, Any]] | None = None,
    ) -> grpc.aio.Channel:
        """A channel that trusts the CA, or another."""
        credentials = grpc.ssl_channel_credentials(
            ca or self.authority.cert,
            client.key if client else None,
            client.cert if client else None,
        )
        # one connection for each channel: an open one would hide what a new one meets
        own = [("grpc.use_local_subchannel_pool", 1), *(options or [])]
        return grpc.aio.secure_channel(address, credentials, own)


@pytest.fixture(autouse=True)
def changes_count_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files need no second to settle here; `test_saved_in_place.py` is about it."""
    monkeypatch.setattr(watched, "SETTLE_S", 0.0)


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    """A CA and a service's certificate."""
    return Certificates(tmp_path)
