"""A file in parts, which services keep elsewhere: on NATS servers, or in a bucket.

It is some parts and one record, written last and once: without it there is no file, and only the
parts that it names count.
"""

import asyncio
import base64
import hashlib
import itertools
import json
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol, Self

from voxroute_orchestrator.jetstream.link import PATIENCE_S

ABANDONED_S = 24 * 3600.0
_AT_ONCE = 4  # parts: more are no faster, and what is said meanwhile waits behind them


@dataclass(frozen=True, slots=True)
class FileName:
    """Which file of which job."""

    job_id: str
    place: str
    """Letters, digits and hyphens: `media`, `results-2`."""
    name: str

    @property
    def token(self) -> str:
        """The name in letters, digits, hyphens and underscores."""
        return base64.urlsafe_b64encode(self.name.encode()).decode().rstrip("=")

    def __str__(self) -> str:
        return f"{self.name} of job {self.job_id}"


def name_of(token: str) -> str:
    """The name that has the token."""
    return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()


@dataclass(frozen=True, slots=True)
class Kept:
    """What a file is."""

    n_bytes: int
    sha256: str
    """Hexadecimal."""
    parts: Sequence[int]
    """Their numbers, which rise."""
    by: str = field(default_factory=lambda: secrets.token_hex(8))
    """Who has written it: a name for this once."""

    def dumped(self) -> bytes:
        """The record; each number as its distance from the one before."""
        steps = [number - last for last, number in itertools.pairwise([0, *self.parts])]
        told = {"bytes": self.n_bytes, "sha256": self.sha256, "parts": steps, "by": self.by}
        return json.dumps(told, separators=(",", ":")).encode()

    @classmethod
    def read(cls, record: bytes) -> Self:
        """What a record says."""
        told = json.loads(record)
        steps: list[int] = told["parts"]
        parts = list(itertools.accumulate(steps))
        return cls(told["bytes"], told["sha256"], parts, told["by"])


class Remote(Protocol):
    """Keeps files in parts. Lives on one event loop.

    Every method raises DiskFullError, StoreBusyError or StoreError where it cannot.
    """

    async def put(self, file: FileName, source: Path, patience_s: float = PATIENCE_S) -> Kept:
        """Keeps a file, which is there as a whole then; else it is not.

        Raises ThereError where one is there already, OSError.
        """
        ...

    async def look(self, file: FileName) -> Kept:
        """What a file is. Raises FileNotFoundError."""
        ...

    async def get(self, file: FileName, kept: Kept, write: Callable[[bytes], None]) -> None:
        """Hands out the bytes of a file in their order; some may have gone out when it fails.

        Raises FileNotFoundError where they are not those that were kept, what `write` raises.
        """
        ...

    async def names(self, job_id: str, place: str) -> list[str]:
        """The names of the files in a place of a job."""
        ...

    async def places(self, job_id: str) -> set[str]:
        """The places of a job where something is."""
        ...

    async def remove(self, job_id: str, place: str = "") -> None:
        """Removes the files in a place of a job, or in all."""
        ...

    async def empty(self, file: FileName) -> None:
        """Removes the bytes of a file, whose name is not given again."""
        ...

    async def sweep(
        self, is_known: Callable[[str], Awaitable[bool]], older_s: float = ABANDONED_S
    ) -> int:
        """Removes what is nobody's and did not grow for so long; of how many files.

        That is what is of no job, by `is_known`, and parts of what never became a file.
        """
        ...


async def send_parts(
    source: Path, n_bytes: int, send: Callable[[bytes], Awaitable[int]], parts: list[int]
) -> tuple[int, str]:
    """Sends a file in parts of so many bytes; its size and SHA-256.

    `send` tells the number of a part, and `parts` has all of them, also where it raises. Raises
    what `send` raises, OSError.
    """
    digest, size = hashlib.sha256(), 0
    sending: deque[asyncio.Future[int]] = deque()
    content = await asyncio.to_thread(source.open, "rb")
    try:
        while data := await asyncio.to_thread(_read, content, n_bytes, digest.update):
            if len(sending) == _AT_ONCE:
                parts.append(await sending.popleft())
            sending.append(asyncio.ensure_future(send(data)))
            size += len(data)
        while sending:
            parts.append(await sending.popleft())
    finally:
        content.close()
        left = await asyncio.gather(*sending, return_exceptions=True)
        parts += [number for number in left if isinstance(number, int)]
    return size, digest.hexdigest()


async def fetch_parts(
    file: FileName,
    kept: Kept,
    fetch: Callable[[int], Awaitable[bytes | None]],
    write: Callable[[bytes], None],
) -> None:
    """Hands out the parts of a file in their order. `fetch` tells None of one that is not there.

    Raises FileNotFoundError where they are not those that were kept, what `fetch` and `write`
    raise.
    """
    digest, size = hashlib.sha256(), 0
    damaged = FileNotFoundError(f"{file} is damaged where it is kept")
    asking: deque[asyncio.Future[bytes | None]] = deque()
    left = iter(kept.parts)
    try:
        while True:
            for number in itertools.islice(left, _AT_ONCE - len(asking)):
                asking.append(asyncio.ensure_future(fetch(number)))
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


def _read(content: BinaryIO, n_bytes: int, look_at: Callable[[bytes], None]) -> bytes:
    data = content.read(n_bytes)
    look_at(data)
    return data


def _write(data: bytes, look_at: Callable[[bytes], None], write: Callable[[bytes], None]) -> None:
    look_at(data)
    write(data)
