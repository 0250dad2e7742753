"""Calls that are made again."""

import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

import tenacity

from voxroute_orchestrator.client.connection import CallPolicy, Endpoint
from voxroute_orchestrator.client.failures import CallFailedError

T = TypeVar("T")

RESUMED = "RESUMED"
"""The code of the note that a connection was lost and the work went on."""
_MAX_ADVICE_S = 60.0  # a longer RetryInfo than this is not waited for in one piece


class Retry:
    """Tries a call again while it makes sense, for at most `retry_s` without progress.

    The service's own advice (RetryInfo) is followed; without it the wait doubles from half a
    second to 15, with jitter so that many clients do not come back at once.
    """

    def __init__(self, endpoint: Endpoint, policy: CallPolicy) -> None:
        self._endpoint = endpoint
        self._retry_s = policy.retry_s
        self._failures = 0
        self._since: float | None = None

    def progress(self) -> None:
        """Tells that something new was achieved: patience begins afresh."""
        self._failures = 0
        self._since = None

    async def run(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """What the attempt returns in the end. Raises VoxrouteError."""
        try:
            return await self._retrying()(attempt)
        except CallFailedError as failure:
            raise failure.error from failure

    async def attempts(self) -> AsyncGenerator[tenacity.AttemptManager]:
        """An attempt to be made within each; none follows one that went well.

        Raises VoxrouteError.
        """
        try:
            async for attempt in self._retrying():
                yield attempt
        except CallFailedError as failure:
            raise failure.error from failure

    def _retrying(self) -> tenacity.AsyncRetrying:
        return tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(
                lambda error: isinstance(error, CallFailedError) and error.retryable
            ),
            before=self._recover,
            wait=self._wait,
            stop=self._exhausted,
            reraise=True,
        )

    async def _recover(self, _: tenacity.RetryCallState) -> None:
        if self._failures:
            await self._endpoint.recover()

    def _exhausted(self, state: tenacity.RetryCallState) -> bool:
        now = time.monotonic()
        self._failures += 1
        self._since = now if self._since is None else self._since
        failure = state.outcome.exception() if state.outcome else None
        advised_s = failure.retry_after_s if isinstance(failure, CallFailedError) else None
        return now - self._since + (advised_s or 0.0) > self._retry_s

    def _wait(self, state: tenacity.RetryCallState) -> float:
        failure = state.outcome.exception() if state.outcome else None
        if isinstance(failure, CallFailedError) and failure.retry_after_s is not None:
            return min(failure.retry_after_s, _MAX_ADVICE_S) + random.uniform(0.0, 0.25)  # noqa: S311 - jitter is no secret
        longest = min(15.0, 0.5 * 2.0 ** max(0, self._failures - 1))
        return random.uniform(longest / 2, longest)  # noqa: S311 - jitter is no secret
