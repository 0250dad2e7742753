"""The keepers of journals, for tests that ask the same of each."""

import contextlib
from pathlib import Path
from typing import Protocol

from tests.orchestrator.jobs.nats_server import NatsServer
from voxroute_orchestrator.jetstream.access import Access
from voxroute_orchestrator.jetstream.journal import JetStreamJournal
from voxroute_orchestrator.jetstream.link import Link
from voxroute_orchestrator.jetstream.setup import set_up
from voxroute_orchestrator.pipeline.journal import Journal, SqliteJournal, discard


class Keeper(Protocol):
    """What keeps the journal of one job."""

    async def open(self) -> Journal:
        """The next run takes the journal up."""
        ...

    async def restart(self) -> Journal:
        """The next run begins anew."""
        ...

    async def close(self) -> None:
        """Lets go of it."""
        ...


class Files:
    """A SQLite file."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "journal"
        self._open = contextlib.ExitStack()

    async def open(self) -> Journal:
        """The next run takes the journal up."""
        return self._open.enter_context(SqliteJournal(self._path))

    async def restart(self) -> Journal:
        """The next run begins anew."""
        discard(self._path)
        return await self.open()

    async def close(self) -> None:
        """Lets go of it."""
        self._open.close()


class OnServer:
    """A subject of a nats-server."""

    def __init__(self, server: NatsServer) -> None:
        self.server = server
        self.attempt = 0
        self.generation = 0
        self.link: Link

    async def start(self) -> None:
        """Makes the streams."""
        self.link = await Link.open(Access([self.server.url]))
        await set_up(self.link)

    async def open(self) -> Journal:
        """The next run takes the journal up."""
        self.attempt += 1
        return await JetStreamJournal.open(self.link, "a", self.generation, self.attempt)

    async def restart(self) -> Journal:
        """The next run begins anew."""
        self.generation += 1
        return await self.open()

    async def close(self) -> None:
        """Lets go of it."""
        await self.link.close()
