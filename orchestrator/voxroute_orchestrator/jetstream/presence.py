"""Who is there: every job service and worker answers a question that goes to all of them.

Nothing is kept, so nobody is told to be there who has gone.
"""

import asyncio
import json
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from voxroute_orchestrator.jetstream.access import Access
from voxroute_orchestrator.jetstream.calls import TRANSLATION, pool_of, translation_pool_of
from voxroute_orchestrator.jetstream.link import Link, RefusedError
from voxroute_orchestrator.jetstream.setup import (
    FILES,
    JOBS,
    JOURNAL,
    NO_STREAM,
    SPANS,
    WHO,
)

_ANSWERS_S = 1.0  # for all to answer
_REACH_S = 3.0  # for a server to say what it is


@dataclass(frozen=True, slots=True)
class Server:
    """A NATS server that was named."""

    address: str
    reachable: bool
    name: str = ""
    version: str = ""
    leads: tuple[str, ...] = ()
    """Streams whose writes it takes."""
    behind: int = 0
    """Messages of all streams that it does not have yet."""
    offline: bool = False
    """Whether the others miss it."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """What there is, as JSON has it."""

    servers: list[Server]
    job_services: list[dict[str, Any]]
    workers: list[dict[str, Any]]
    jobs: dict[str, int]
    """By state, those that have not ended; empty where no job service tells."""
    oldest_s: float
    """Age of the job that has waited longest, seconds; 0 where none waits."""
    tickets: dict[str, int]
    """What is offered to workers, by the model that it asks for; "any" for spans for any model,
    "translation" for texts for any.
    """
    leases: dict[str, int]
    """Jobs that a service has, and those of them that were another's before."""

    def as_json(self) -> str:
        """All of it."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=2)


async def be_there(
    link: Link, kind: str, name: str, version: str, tell: Callable[[], dict[str, Any]]
) -> None:
    """Answers from now on whoever asks who is there, with what `tell` adds. Raises AwayError."""
    who = {"kind": kind, "name": name, "host": socket.gethostname(), "version": version}

    async def answer(_: bytes) -> bytes:
        return json.dumps(who | tell()).encode()

    await link.serve(WHO, answer)


async def look(access: Access, link: Link) -> Fleet:
    """What there is now. Raises LinkError."""
    said, reached, streams = await asyncio.gather(
        link.ask_all(WHO, _ANSWERS_S),
        asyncio.gather(*map(_reached, access.servers)),
        asyncio.gather(*(_stream(link, name) for name in (JOBS, JOURNAL, SPANS, FILES))),
    )
    there = sorted(map(json.loads, said), key=lambda one: (one["host"], one["name"]))
    services = [one for one in there if one["kind"] == "jobs"]
    workers = [one for one in there if one["kind"] == "worker"]
    attempts = [one["attempt"] for service in services for one in service["doing"]]
    states = [one["jobs"] for one in services]
    return Fleet(
        [_with_streams(server, streams) for server in reached],
        services,
        workers,
        {name: max(one[name] for one in states) for name in (states[0] if states else ())},
        max((one["oldest_s"] for one in services), default=0.0),
        _tickets(streams[2], workers),
        {"held": len(attempts), "again": sum(attempt > 1 for attempt in attempts)},
    )


async def _stream(link: Link, name: str) -> dict[str, Any]:
    """What a server knows of a stream; nothing where nobody has made it yet."""
    asked = {"subjects_filter": ">"} if name == SPANS else None
    try:
        return await link.call(f"STREAM.INFO.{name}", asked)
    except RefusedError as error:
        if error.code != NO_STREAM:
            raise
        return {}


async def _reached(address: str) -> Server:
    """What a server says of itself to whoever connects, before it asks who that is."""
    host, _, port = address.partition("://")[2].rpartition(":")
    try:
        async with asyncio.timeout(_REACH_S):
            reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
            try:
                info = json.loads((await reader.readline()).removeprefix(b"INFO "))
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        return Server(address, reachable=False)
    return Server(address, reachable=True, name=info["server_name"], version=info["version"])


def _with_streams(server: Server, streams: list[dict[str, Any]]) -> Server:
    """The server with its part in the cluster that keeps the streams."""
    leads: list[str] = []
    behind, offline = 0, False
    for stream in streams:
        cluster: dict[str, Any] = stream.get("cluster") or {}
        if stream and server.reachable and cluster.get("leader", server.name) == server.name:
            leads.append(stream["config"]["name"])
        for replica in cluster.get("replicas") or ():
            if replica["name"] == server.name:
                behind += replica.get("lag", 0)
                offline = offline or bool(replica.get("offline"))
    return Server(
        server.address, server.reachable, server.name, server.version, tuple(leads), behind, offline
    )


def _tickets(spans: dict[str, Any], workers: list[dict[str, Any]]) -> dict[str, int]:
    subjects: dict[str, int] = spans.get("state", {}).get("subjects") or {}
    pools = Counter(subject.split(".")[2] for subject in subjects)
    names: dict[str, str] = {}
    for model in (model for one in workers for model in one["models"]):
        names |= {pool_of(model): model, translation_pool_of(model): f"{TRANSLATION} by {model}"}
    return {names.get(pool, pool): number for pool, number in pools.items()}
