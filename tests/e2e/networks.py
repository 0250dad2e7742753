"""Hosts that are network namespaces, with a bridge between them.

Needs root, `ip` of iproute2, and a kernel that makes namespaces, bridges and veth pairs. Everything
is made for a test and taken away after it; the host's own network is not touched.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Generator, Mapping
from dataclasses import dataclass

import pytest


def ip(*arguments: str) -> None:
    """Runs `ip`. Raises OSError."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


@dataclass(frozen=True)
class Network:
    """Namespaces by the name of their host; `lan` holds the bridge between them."""

    prefix: str
    hosts: Mapping[str, str]
    """Names to addresses of one /24."""

    def name(self, host: str) -> str:
        """The namespace of a host."""
        return f"{self.prefix}-{host}"

    def inside(self, host: str) -> list[str]:
        """What runs a command on a host."""
        return ["ip", "netns", "exec", self.name(host)]

    def cut(self, host: str) -> None:
        """Has nothing go to a host, or come from it, until `heal`."""
        ip("-n", self.name("lan"), "link", "set", f"to-{host}", "down")

    def heal(self, host: str) -> None:
        """Connects a host again."""
        ip("-n", self.name("lan"), "link", "set", f"to-{host}", "up")

    def build(self) -> None:
        """Raises OSError where one of them cannot be made."""
        ip("netns", "add", self.name("lan"))
        ip("-n", self.name("lan"), "link", "add", "lan0", "type", "bridge")
        ip("-n", self.name("lan"), "link", "set", "lan0", "up")
        for host, address in self.hosts.items():
            namespace, port = self.name(host), f"to-{host}"
            ip("netns", "add", namespace)
            ip("-n", self.name("lan"), "link", "add", port, "type", "veth", "peer", "eth0",
                "netns", namespace)  # fmt: skip
            ip("-n", self.name("lan"), "link", "set", port, "master", "lan0", "up")
            ip("-n", namespace, "addr", "add", f"{address}/24", "dev", "eth0")
            for device in ("eth0", "lo"):
                ip("-n", namespace, "link", "set", device, "up")

    def remove(self) -> None:
        """Takes away what is there of it."""
        for host in (*self.hosts, "lan"):
            with contextlib.suppress(OSError):
                ip("netns", "del", self.name(host))


@contextlib.contextmanager
def network(hosts: Mapping[str, str]) -> Generator[Network]:
    """Hosts without anything on them; skips where there can be none."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and `ip` (Debian: iproute2)")
    made = Network(f"vx{os.getpid()}", hosts)
    try:
        try:
            made.build()
        except OSError as error:
            pytest.skip(f"no network namespaces here: {error}")
        yield made
    finally:
        made.remove()
