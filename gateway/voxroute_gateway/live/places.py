"""How many clients may be connected for live speech at once."""

import contextlib
from collections.abc import Generator
from dataclasses import dataclass

from voxroute_gateway.errors import RequestError
from voxroute_gateway.metrics import GatewayMetrics

_RETRY_AFTER_S = 30.0


@dataclass(slots=True)
class LivePlaces:
    """The places of all kinds together."""

    metrics: GatewayMetrics
    most: int
    _taken: int = 0

    @contextlib.contextmanager
    def place(self, kind: str) -> Generator[None]:
        """A place while the block lasts. Raises RequestError where all are taken."""
        if self._taken >= self.most:
            raise RequestError(
                429, "too many clients are connected for live speech; try again later",
                "live_full", None, _RETRY_AFTER_S,
            )  # fmt: skip
        self._taken += 1
        self.metrics.live.labels(kind).inc()
        try:
            yield
        finally:
            self._taken -= 1
            self.metrics.live.labels(kind).dec()
