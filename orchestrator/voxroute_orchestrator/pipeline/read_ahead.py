"""The start of a recording, decoded while the services that are to have it start."""

import threading
from collections import deque

from voxroute_orchestrator.errors import NoAudioError
from voxroute_orchestrator.media import PcmReader
from voxroute_orchestrator.transcript import Media

AHEAD_BYTES = 8 * 1024 * 1024  # 4.4 minutes, about the longest span that a service is given


class EarlyReader(PcmReader):
    """A PcmReader that may decode before anybody reads.

    `read_ahead` is for a thread of its own, and ends once somebody reads.
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
        """Decodes so many bytes, or all there are; `read` raises a failure where it meets it."""
        n_bytes = 0
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
        """The next chunk; b"" at the end. Raises MediaError."""
        with self._turn:
            self._is_read = True
            if self._ahead:
                return self._ahead.popleft()
            failure, self._failure = self._failure, None
            if failure is not None:
                raise failure
            return super().read()

    def close(self) -> None:
        """Ends reading, at once; nothing is decoded any more."""
        self._is_read = True
        super().close()
