"""Calls that are made again."""

import random
import time
from collections.abc import Awaitable, Callable

import tenacity

from voxroute_orchestrator.client.connection import CallPolicy, Endpoint
from voxroute_orchestrator.client.failures import CallFailedError

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
        self.retries: list[str] = []

    def progress(self) -> None:
        """Tells that something new was achieved: patience begins afresh."""
        self._failures = 0
        self._since = None

    async def run(self, attempt: Callable[[], Awaitable[None]]) -> None:
        """Runs the attempt until it returns. Raises VoxrouteError."""
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(
                lambda error: isinstance(error, CallFailedError) and error.retryable
            ),
            wait=self._wait,
            stop=self._exhausted,
            before_sleep=self._note,
            reraise=True,
        )
        try:
            await retrying(self._recovering(attempt))
        except CallFailedError as failure:
            raise failure.error from failure

    def _recovering(self, attempt: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        async def recover_and_try() -> None:
            if self._failures:
                await self._endpoint.recover()
            await attempt()

        return recover_and_try

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

    async def _note(self, state: tenacity.RetryCallState) -> None:
        failure = state.outcome.exception() if state.outcome else None
        self.retries.append(str(failure))
