"""The files of jobs on the NATS servers: uploads, results, revisions, sounds.

    vr.part.<id>.<place>.<name>   the bytes, half a megabyte a message; the name in base64
    vr.file.<id>.<place>.<name>   written last, once: bytes, SHA-256, and the numbers of the parts

A file never changes. Each part is tried again by itself, and one that was kept twice, or by a
writer who was too late, is not among those that are named. Without the last message there is no
file; what was left of one is removed after a day (`sweep`).
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from voxroute_orchestrator.jetstream.link import (
    PATIENCE_S,
    ConflictError,
    Link,
    LinkError,
    seconds_of,
)
from voxroute_orchestrator.jetstream.setup import FILES
from voxroute_orchestrator.jobs.stores.file_store import ThereError
from voxroute_orchestrator.jobs.stores.leases import serving_errors
from voxroute_orchestrator.jobs.stores.parts import (
    ABANDONED_S,
    FileName,
    Kept,
    fetch_parts,
    name_of,
    send_parts,
)
from voxroute_serving.telemetry.logs import get_logger

_PART_BYTES = 512 * 1024  # servers take a megabyte
_DELETED_AT_ONCE = 64

_log = get_logger(__name__)


def subject(file: FileName) -> str:
    """The end of the subjects of a file."""
    return f"{file.job_id}.{file.place}.{file.token}"


class ServerFiles:
    """Remote: in the stream VR_FILES."""

    def __init__(self, link: Callable[[], Link]) -> None:
        self._link = link

    async def put(self, file: FileName, source: Path, patience_s: float = PATIENCE_S) -> Kept:
        """As Remote; what fails takes no room, unless the server has gone away meanwhile."""
        link, parts = self._link(), list[int]()
        with serving_errors():
            try:
                size, sha256 = await send_parts(
                    source,
                    _PART_BYTES,
                    lambda data: link.add(f"vr.part.{subject(file)}", data, patience_s),
                    parts,
                )
                kept = Kept(size, sha256, parts)
                await link.append(FILES, f"vr.file.{subject(file)}", kept.dumped(), 0, patience_s)
            except LinkError as error:
                with contextlib.suppress(LinkError):  # `sweep` removes them
                    for at in range(0, len(parts), _DELETED_AT_ONCE):
                        some = parts[at : at + _DELETED_AT_ONCE]
                        await asyncio.gather(*(link.delete(FILES, number) for number in some))
                if isinstance(error, ConflictError):
                    raise ThereError(file.name) from error
                raise
        return kept

    async def look(self, file: FileName) -> Kept:
        """As Remote."""
        with serving_errors():
            message = await self._link().next(FILES, f"vr.file.{subject(file)}", 0)
        if message is None:
            raise FileNotFoundError(f"the server has no {file}")
        return Kept.read(message.data)

    async def get(self, file: FileName, kept: Kept, write: Callable[[bytes], None]) -> None:
        """As Remote."""
        link = self._link()

        async def part(number: int) -> bytes | None:
            message = await link.at(FILES, number)
            right = message is not None and message.subject == f"vr.part.{subject(file)}"
            return message.data if message is not None and right else None

        with serving_errors():
            await fetch_parts(file, kept, part, write)

    async def names(self, job_id: str, place: str) -> list[str]:
        """As Remote."""
        found: list[str] = []
        with serving_errors():
            async for subjects in self._link().subjects(FILES, f"vr.file.{job_id}.{place}.*"):
                found += (name_of(one.rpartition(".")[2]) for one in subjects)
        return sorted(found)

    async def places(self, job_id: str) -> set[str]:
        """As Remote."""
        found: set[str] = set()
        with serving_errors():
            for kind in ("part", "file"):
                async for subjects in self._link().subjects(FILES, f"vr.{kind}.{job_id}.*.*"):
                    found |= {one.split(".")[3] for one in subjects}
        return found

    async def remove(self, job_id: str, place: str = "") -> None:
        """As Remote."""
        with serving_errors():
            for kind in ("file", "part"):  # in this order: there is no file without its parts
                await self._link().purge(FILES, f"vr.{kind}.{job_id}.{place or '*'}.*")

    async def empty(self, file: FileName) -> None:
        """As Remote."""
        with serving_errors():
            await self._link().purge(FILES, f"vr.part.{subject(file)}")

    async def sweep(
        self, is_known: Callable[[str], Awaitable[bool]], older_s: float = ABANDONED_S
    ) -> int:
        """As Remote."""
        with serving_errors():
            return await self._sweep(is_known, older_s)

    async def _sweep(self, is_known: Callable[[str], Awaitable[bool]], older_s: float) -> int:
        """Raises LinkError."""
        link = self._link()
        now_s = seconds_of((await link.call(f"STREAM.INFO.{FILES}"))["ts"])
        found: dict[str, set[str]] = {"part": set(), "file": set()}
        for kind, paths in found.items():
            async for subjects in link.subjects(FILES, f"vr.{kind}.*.*.*"):
                paths |= {one.removeprefix(f"vr.{kind}.") for one in subjects}
        jobs = {path.partition(".")[0] for path in found["part"] | found["file"]}
        strange = {job_id for job_id in jobs if not await is_known(job_id)}
        count = 0
        for path in sorted(found["part"] | found["file"]):
            kinds = [kind for kind in ("part", "file") if path in found[kind]]
            if kinds != ["part"] and path.partition(".")[0] not in strange:
                continue
            lasts = [await link.last(FILES, f"vr.{kind}.{path}") for kind in kinds]
            if any(last is not None and now_s - last.time_s < older_s for last in lasts):
                continue
            for kind in kinds:
                await link.purge(FILES, f"vr.{kind}.{path}")
            _log.info("a file that is nobody's is removed from the server", file=path)
            count += 1
        return count
