"""The files of jobs on the servers: uploads, results, revisions, sounds.

    vr.part.<id>.<place>.<name>   the bytes, half a megabyte a message; the name in base64
    vr.file.<id>.<place>.<name>   written last, once: bytes, SHA-256, and the numbers of the parts

A file never changes. Each part is tried again by itself, and one that was kept twice, or by a
writer who was too late, is not among those that are named. Without the last message there is no
file; what was left of one is removed after a day (`sweep`).
"""

import asyncio
import base64
import contextlib
import hashlib
import itertools
import json
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from voxroute_orchestrator.jetstream.link import PATIENCE_S, Link, LinkError, seconds_of
from voxroute_orchestrator.jetstream.setup import FILES
from voxroute_serving.telemetry.logs import get_logger

_PART_BYTES = 512 * 1024  # servers take a megabyte
_DELETED_AT_ONCE = 64
_AT_ONCE = 4  # parts: more are no faster, and what is said meanwhile waits behind them
ABANDONED_S = 24 * 3600.0

_log = get_logger(__name__)


class GoneError(LinkError):
    """There is no such file, or not as it was kept."""


@dataclass(frozen=True, slots=True)
class FileName:
    """Which file of which job."""

    job_id: str
    place: str
    """Letters, digits and hyphens: `media`, `results-2`."""
    name: str

    @property
    def path(self) -> str:
        """The end of its subjects."""
        return f"{self.job_id}.{self.place}.{_encoded(self.name)}"


@dataclass(frozen=True, slots=True)
class Kept:
    """What a file is."""

    n_bytes: int
    sha256: str
    """Hexadecimal."""
    parts: Sequence[int]
    """Their numbers in the stream."""


async def put(link: Link, file: FileName, source: Path, patience_s: float = PATIENCE_S) -> Kept:
    """Keeps a file, which is there as a whole then; else it is not, and takes no room.

    Raises ConflictError where it is there already, OSError, FullError, AwayError, RefusedError.
    """
    parts: list[int] = []
    try:
        kept = await _put_parts(link, file, source, parts, patience_s)
        await link.append(FILES, f"vr.file.{file.path}", _dump(kept), 0, patience_s)
    except LinkError:
        with contextlib.suppress(LinkError):  # `sweep` removes them
            for at in range(0, len(parts), _DELETED_AT_ONCE):
                some = parts[at : at + _DELETED_AT_ONCE]
                await asyncio.gather(*(link.delete(FILES, number) for number in some))
        raise
    return kept


async def _put_parts(
    link: Link, file: FileName, source: Path, parts: list[int], patience_s: float
) -> Kept:
    """Keeps the parts, and lists their numbers, also where it raises."""
    digest, size = hashlib.sha256(), 0
    sending: deque[asyncio.Future[int]] = deque()
    content = await asyncio.to_thread(source.open, "rb")
    try:
        while data := await asyncio.to_thread(_read, content, digest.update):
            if len(sending) == _AT_ONCE:
                parts.append(await sending.popleft())
            sent = link.add(f"vr.part.{file.path}", data, patience_s)
            sending.append(asyncio.ensure_future(sent))
            size += len(data)
        while sending:
            parts.append(await sending.popleft())
    finally:
        content.close()
        left = await asyncio.gather(*sending, return_exceptions=True)
        parts += [number for number in left if isinstance(number, int)]
    return Kept(size, digest.hexdigest(), parts)


async def look(link: Link, file: FileName, patience_s: float = PATIENCE_S) -> Kept:
    """What a file is. Raises GoneError, AwayError, RefusedError."""
    message = await link.next(FILES, f"vr.file.{file.path}", 0, patience_s)
    if message is None:
        raise GoneError(f"the server has no {file.name} of job {file.job_id}")
    told = json.loads(message.data)
    return Kept(told["bytes"], told["sha256"], list(itertools.accumulate(told["parts"])))


async def get(
    link: Link,
    file: FileName,
    kept: Kept,
    write: Callable[[bytes], None],
    patience_s: float = PATIENCE_S,
) -> None:
    """Hands out the bytes of a file in their order; the last ones may have gone out when it fails.

    Raises GoneError where they are not those that were kept, what `write` raises, AwayError,
    RefusedError.
    """
    digest, size = hashlib.sha256(), 0
    damaged = GoneError(f"{file.name} of job {file.job_id} is damaged on the server")
    asking: deque[asyncio.Future[bytes | None]] = deque()
    left = iter(kept.parts)

    async def part(number: int) -> bytes | None:
        message = await link.at(FILES, number, patience_s)
        right = message is not None and message.subject == f"vr.part.{file.path}"
        return message.data if message is not None and right else None

    try:
        while True:
            for number in itertools.islice(left, _AT_ONCE - len(asking)):
                asking.append(asyncio.ensure_future(part(number)))
            if not asking:
                break
            data = await asking.popleft()
            if data is None:
                raise damaged
            size += len(data)
            if size > kept.n_bytes:
                raise damaged
            await asyncio.to_thread(_write, data, digest.update, write)
    finally:
        for asked in asking:
            asked.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    if (size, digest.hexdigest()) != (kept.n_bytes, kept.sha256):
        raise damaged


async def names(link: Link, job_id: str, place: str) -> list[str]:
    """The names of the files in a place of a job. Raises AwayError, RefusedError."""
    found: list[str] = []
    async for subjects in link.subjects(FILES, f"vr.file.{job_id}.{place}.*"):
        found += (_decoded(subject.rpartition(".")[2]) for subject in subjects)
    return sorted(found)


async def places(link: Link, job_id: str) -> set[str]:
    """The places of a job where something is. Raises AwayError, RefusedError."""
    found: set[str] = set()
    for kind in ("part", "file"):
        async for subjects in link.subjects(FILES, f"vr.{kind}.{job_id}.*.*"):
            found |= {subject.split(".")[3] for subject in subjects}
    return found


async def remove(link: Link, job_id: str, place: str = "*") -> None:
    """Removes the files in a place of a job, or in all. Raises AwayError, RefusedError."""
    for kind in ("file", "part"):  # in this order: there is no file without its parts
        await link.purge(FILES, f"vr.{kind}.{job_id}.{place}.*")


async def empty(link: Link, file: FileName) -> None:
    """Removes the bytes of a file, whose name is not given again.

    Raises AwayError, RefusedError.
    """
    await link.purge(FILES, f"vr.part.{file.path}")


async def sweep(
    link: Link, is_known: Callable[[str], Awaitable[bool]], older_s: float = ABANDONED_S
) -> int:
    """Removes what is nobody's and did not grow for so long; of how many files.

    That is what is of no job, by `is_known`, and parts of what never became a file. Raises
    AwayError, RefusedError.
    """
    now_s = seconds_of((await link.call(f"STREAM.INFO.{FILES}"))["ts"])
    found: dict[str, set[str]] = {"part": set(), "file": set()}
    for kind, paths in found.items():
        async for subjects in link.subjects(FILES, f"vr.{kind}.*.*.*"):
            paths |= {subject.removeprefix(f"vr.{kind}.") for subject in subjects}
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


def _encoded(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode().rstrip("=")


def _decoded(token: str) -> str:
    return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()


def _dump(kept: Kept) -> bytes:
    """As it is kept; each number as its distance from the one before."""
    steps = [number - last for last, number in itertools.pairwise([0, *kept.parts])]
    told = {"bytes": kept.n_bytes, "sha256": kept.sha256, "parts": steps}
    return json.dumps(told | {"by": secrets.token_hex(8)}, separators=(",", ":")).encode()


def _read(content: BinaryIO, look_at: Callable[[bytes], None]) -> bytes:
    data = content.read(_PART_BYTES)
    look_at(data)
    return data


def _write(data: bytes, look_at: Callable[[bytes], None], write: Callable[[bytes], None]) -> None:
    look_at(data)
    write(data)
