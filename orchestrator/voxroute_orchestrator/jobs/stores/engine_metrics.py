"""The Prometheus metrics of the NATS servers that keep the jobs, as one service sees them."""

import math
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge

from voxroute_orchestrator.jetstream.link import Link, LinkError
from voxroute_orchestrator.jetstream.setup import FILES, JOBS, JOURNAL, SPANS

_ACCOUNT = "account"


class EngineMetrics:
    """What an operator sees of `--engine`."""

    def __init__(self, registry: CollectorRegistry, *, files: bool) -> None:
        """`files` is whether those of the jobs are there as well."""
        self._streams = (JOBS, JOURNAL, SPANS, *([FILES] if files else []))

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"voxroute_engine_{name}", text, labels, registry=registry)

        def counter(name: str, text: str) -> Counter:
            return Counter(f"voxroute_engine_{name}", text, registry=registry)

        self._up = gauge("up", "1 where the NATS servers have answered the last look, else 0.")
        self._oldest = gauge(
            "oldest_seconds", "Age of the job that has waited longest; 0 where none waits."
        )
        self._bytes = gauge(
            "bytes", "What a stream has, and the whole account, in bytes of one copy.", "of"
        )
        self._limit = gauge("limit_bytes", "What it may have; +Inf where it has no limit.", "of")
        self._missing = gauge(
            "replicas_missing",
            "Servers that ought to keep a stream and are away or behind.",
            "stream",
        )
        self._behind = gauge(
            "replicas_behind",
            "Messages of a stream that its slowest server does not have yet.",
            "stream",
        )
        self.leases_lost = counter(
            "leases_lost", "Attempts of this service that have found their job another's."
        )
        self.taken_over = counter(
            "taken_over", "Jobs that have gone on at this service because theirs was silent."
        )
        self._conflicts = counter(
            "conflicts", "Writes of this service that were refused because another came first."
        )
        self._reconnects = counter(
            "reconnects", "Times that this service has found a server again after its own had gone."
        )
        for of in (*self._streams, _ACCOUNT):
            self._put_room(of, 0, 0)
        for stream in self._streams:
            self._missing.labels(stream)
            self._behind.labels(stream)
        self._counted = {self._conflicts: 0, self._reconnects: 0}

    async def look(self, link: Link, oldest_s: float) -> None:
        """Asks the servers, and tells how long the oldest job has waited. Raises LinkError."""
        self._oldest.set(oldest_s)
        for counter, count in (
            (self._conflicts, link.conflicts),
            (self._reconnects, link.reconnects),
        ):
            counter.inc(count - self._counted[counter])
            self._counted[counter] = count
        try:
            await self._ask(link)
        except LinkError:
            self._up.set(0)
            raise
        self._up.set(1)

    async def _ask(self, link: Link) -> None:
        for stream in self._streams:
            info = await link.call(f"STREAM.INFO.{stream}")
            self._put_room(stream, info["state"]["bytes"], info["config"]["max_bytes"])
            cluster: dict[str, Any] = info.get("cluster") or {}
            replicas: list[dict[str, Any]] = cluster.get("replicas") or []
            away = sum(bool(one.get("offline")) or not one.get("current") for one in replicas)
            self._missing.labels(stream).set(away)
            self._behind.labels(stream).set(max((one.get("lag", 0) for one in replicas), default=0))
        account = await link.call("INFO")
        self._put_room(_ACCOUNT, account["storage"], account["limits"]["max_storage"])

    def _put_room(self, of: str, used: int, limit: int) -> None:
        self._bytes.labels(of).set(used)
        self._limit.labels(of).set(limit if limit > 0 else math.inf)
