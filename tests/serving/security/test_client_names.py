"""What a client is called where it has no token: in the log, and where places are shared."""

from pathlib import Path
from typing import Any, cast

import pytest

from tests.serving.captured_logs import captured_logs
from tests.serving.process.test_server import serving, unload
from tests.serving.secured import Certificates
from voxroute_serving.security.clients import name_without_token
from voxroute_serving.testing.served import until


class Call:
    """What a call tells of its client."""

    def __init__(self, peer: str, *common_names: bytes) -> None:
        self._peer = peer
        self._common_names = common_names

    def peer(self) -> str:
        """The client's end of the connection, as grpc writes it."""
        return self._peer

    def auth_context(self) -> dict[str, list[bytes]]:
        """Of its certificate."""
        return {"x509_common_name": list(self._common_names)} if self._common_names else {}


@pytest.mark.parametrize(
    ("peer", "name"),
    [
        ("ipv4:10.0.0.1:50000", "10.0.0.1"),
        ("ipv6:%5B::1%5D:50000", "::1"),
        ("ipv6:%5B::ffff:10.0.0.1%5D:50000", "10.0.0.1"),
        ("ipv6:%5B2001:db8:1:2:3:4:5:6%5D:50000", "2001:db8:1:2::/64"),
        ("ipv6:%5Bfe80::1%25eth0%5D:50000", "fe80::1"),
        ("unix:", "unix"),
        ("", "unknown"),
    ],
)
def test_a_client_is_named_by_its_address(peer: str, name: str) -> None:
    """Without the port; of IPv6 by the network, all of whose addresses one host has."""
    assert name_without_token(cast("Any", Call(peer))) == name
    assert name_without_token(cast("Any", Call(peer, b""))) == name
    assert name_without_token(cast("Any", Call(peer, b" ", b"team"))) == "team"


async def test_a_certificate_without_a_name_is_named_by_its_address(tmp_path: Path) -> None:
    """Such clients are not all one."""
    certificates = Certificates(tmp_path)
    nameless = certificates.authority.issue("client")
    with captured_logs() as logs:
        async with serving(**certificates.mutual) as running:
            address = running.server.addresses[0]
            async with certificates.channel(address, nameless) as channel:
                await unload(channel, "ok")
            assert await until(lambda: any(one["event"] == "call" for one in logs))
    assert [one["client"] for one in logs if one["event"] == "call"] == ["127.0.0.1"]
