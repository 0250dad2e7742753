"""A recording, read from while services start, and by parts if it is long."""

import threading
from collections import deque

from voxroute_orchestrator.errors import NoAudioError
from voxroute_orchestrator.media import PcmReader, check_length
from voxroute_orchestrator.pipeline.part_readers import PART_BYTES, PartReaders, has_parts
from voxroute_orchestrator.transcript import Media
from voxroute_serving.audio.media import SAMPLE_BYTES, SAMPLE_RATE

AHEAD_BYTES = PART_BYTES  # ten minutes; what is behind it may be another process's


class EarlyReader(PcmReader):
    """A PcmReader that may decode before anybody reads, and decodes a long recording by parts.

    `read_ahead` is for a thread of its own, and ends once somebody reads. Parts come whole, so
    `read` may return more than a chunk.
    """

    def __init__(
        self,
        media: Media,
        *,
        start_s: float = 0.0,
        end_s: float | None = None,
        max_s: float | None = None,
    ) -> None:
        super().__init__(media, start_s=start_s, end_s=end_s, max_s=max_s)
        self._ahead: deque[bytes] = deque()
        self._failure: Exception | None = None
        self._is_read = False
        self._turn = threading.Lock()
        self._parts: PartReaders | None = None
        self._n_read = 0  # bytes that `read` has returned

    def check(self) -> None:
        """Decodes the first chunk. Raises MediaError where there is none."""
        self.read_ahead(1)
        if self._failure is not None:
            raise self._failure
        if not any(self._ahead):
            part = self._start_s or self._end_s is not None
            raise NoAudioError(
                "the part that is wanted holds no audio; check --start-time and --end-time"
                if part
                else "the file holds no audio that can be decoded"
            )

    def read_ahead(self, most: int = AHEAD_BYTES) -> None:
        """Decodes up to so many bytes in all; `read` raises a failure where it meets it."""
        n_bytes = sum(map(len, self._ahead))
        while n_bytes < most and self._failure is None:
            with self._turn:
                if self._is_read:
                    return
                try:
                    chunk = super().read()
                except Exception as error:  # noqa: BLE001 - `read` raises it
                    self._failure = error
                    return
                self._ahead.append(chunk)
            if not chunk:
                return
            n_bytes += len(chunk)

    def read(self) -> bytes:
        """The next samples; b"" at the end. Raises MediaError."""
        with self._turn:
            if not self._is_read:
                self._is_read = True
                self._begin_parts()
            piece = self._ahead.popleft() if self._ahead else self._read_on()
            self._n_read += len(piece)
            return piece

    def _begin_parts(self) -> None:
        if self._ahead and has_parts(self.media, self._start_s, self._end_s):
            self._parts = PartReaders(self.media, self.first_s, self._end_s, self.watch)
            if self.watch.stopped:
                self._parts.close()

    def _read_on(self) -> bytes:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        if self._parts is not None and self._n_read >= PART_BYTES:
            part = None if self.notes else self._parts.read()
            if part is not None:
                length_s = (self._n_read + len(part)) / SAMPLE_BYTES / SAMPLE_RATE
                check_length(length_s, self._max_s, self.media.path)
                return part
            self._parts.close()
            self._parts = None
            heard = self._n_read - PART_BYTES
            while heard > 0 and (chunk := super().read()):
                heard -= len(chunk)
        return super().read()

    def close(self) -> None:
        """Ends reading, at once; nothing is decoded any more."""
        self._is_read = True
        super().close()
        if self._parts is not None:
            self._parts.close()
