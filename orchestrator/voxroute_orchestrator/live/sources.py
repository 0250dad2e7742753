"""Sound that is captioned: media files, raw samples of a pipe, and what threads read."""

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field

from voxroute_orchestrator import reading
from voxroute_orchestrator.errors import MediaError, UsageError
from voxroute_orchestrator.live.tape import BYTES_PER_S
from voxroute_orchestrator.media import PcmReader
from voxroute_orchestrator.transcript import Media
from voxroute_serving.audio.media import SAMPLE_BYTES
from voxroute_serving.audio.signatures import SIGNATURE_BYTES, is_tag, next_file

PIECE_BYTES = BYTES_PER_S // 10
"""Of sound at the pace of speech."""
_AHEAD = 2  # pieces that a thread may have read and nobody has taken


@dataclass(slots=True)
class Pace:
    """Lets sound go no faster than it is spoken."""

    _stopped: asyncio.Event = field(default_factory=asyncio.Event)
    _begun_at: float | None = None
    _passed_s: float = 0.0

    @property
    def stopped(self) -> bool:
        """Whether nothing more is wanted."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """Ends all waits."""
        self._stopped.set()

    async def keep(self, n_bytes: int) -> None:
        """Returns when so much more sound would have been said."""
        now = time.monotonic()
        self._begun_at = now if self._begun_at is None else self._begun_at
        self._passed_s += n_bytes / BYTES_PER_S
        wait_s = self._begun_at + self._passed_s - now
        if wait_s > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._stopped.wait()


class MediaSource:
    """A recording, at the pace of speech or as fast as it is taken."""

    waits = True

    def __init__(self, media: Media, *, paced: bool) -> None:
        self.title = media.stem
        self.start_s = 0.0
        self._media = media
        self._paced = paced
        self._pace = Pace()

    async def open(self) -> None:
        """Nothing to do: the file has been looked at."""

    async def pieces(self) -> AsyncGenerator[bytes]:
        """As Source.pieces. Raises MediaError."""
        reader = PcmReader(self._media)
        begun = False
        try:
            while chunk := await reading.reading(reader.watch, reader.read):
                if not begun:
                    begun, self.start_s = True, reader.first_s
                for begin in range(0, len(chunk), PIECE_BYTES):
                    piece = chunk[begin : begin + PIECE_BYTES]
                    if self._paced:
                        await self._pace.keep(len(piece))
                    if self._pace.stopped:
                        return
                    yield piece
        finally:
            reader.close()

    def stop(self) -> None:
        """As Source.stop."""
        self._pace.stop()


class ThreadSource:
    """What blocking reads give, on a thread that nobody has to wait for. Raises what they raise."""

    title = ""
    waits = True

    def __init__(self) -> None:
        self.start_s = 0.0
        self._pieces: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self._room = threading.Semaphore(_AHEAD)

    def read(self) -> Iterator[bytes]:
        """The pieces, on the thread."""
        raise NotImplementedError

    async def open(self) -> None:
        """As Source.open."""

    async def pieces(self) -> AsyncGenerator[bytes]:
        """As Source.pieces."""
        loop = asyncio.get_running_loop()

        def put(piece: bytes | Exception | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._pieces.put_nowait, piece)

        def work() -> None:
            try:
                for piece in self.read():
                    self._room.acquire()
                    put(piece)
            except Exception as error:  # noqa: BLE001 - goes to who waits
                put(error)
            else:
                put(None)

        threading.Thread(target=work, name=reading.NAME, daemon=True).start()
        while (piece := await self._pieces.get()) is not None:
            self._room.release()
            if isinstance(piece, Exception):
                raise piece
            yield piece

    def stop(self) -> None:
        """As Source.stop."""
        self._pieces.put_nowait(None)


class PipeSource(ThreadSource):
    """Raw samples, 16 kHz mono s16le, of a descriptor: standard input."""

    title = "stdin"

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor

    def read(self) -> Iterator[bytes]:
        """Whole samples, as they come. Raises MediaError, UsageError where a media file comes."""
        odd = b""
        at_start = True
        while data := self._next():
            if at_start and (is_tag(data) or next_file(data[:SIGNATURE_BYTES], 0) == 0):
                raise UsageError(
                    "a media file comes from standard input, whose sound would be noise: name the"
                    " file, or pipe `ffmpeg -i FILE -f s16le -ac 1 -ar 16000 -`"
                )
            at_start = False
            data = odd + data
            whole = len(data) - len(data) % SAMPLE_BYTES
            odd = data[whole:]
            if whole:
                yield data[:whole]

    def _next(self) -> bytes:
        try:
            return os.read(self._descriptor, PIECE_BYTES)
        except OSError as error:
            raise MediaError(f"standard input cannot be read ({error.strerror})") from error
