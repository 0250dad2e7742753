"""The id of the call that is being served, and that of the job that it is for."""

import re
import uuid
from contextvars import Context, ContextVar

METADATA_KEY = "x-request-id"
JOB_METADATA_KEY = "x-voxroute-job"
"""What a client calls its job: for logs and traces, which then have all calls of it."""
_ACCEPTABLE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_request_id: ContextVar[str] = ContextVar("request_id", default="")


def request_id() -> str:
    """The id of the call that is being served, "" outside of one.

    Tasks that a call starts inherit it; threads do not.
    """
    return _request_id.get()


def of(context: Context) -> str:
    """The id of the call that a context was copied in, "" outside of one."""
    return context.get(_request_id, "")


def fit(offered: str | bytes | None) -> str:
    """An id that a client offers, "" where it is unfit for a log."""
    if isinstance(offered, str) and _ACCEPTABLE.fullmatch(offered) is not None:
        return offered
    return ""


def bind(offered: str | bytes | None) -> str:
    """Makes the client's id the one of the current call, or a new one where it is unfit."""
    chosen = fit(offered) or uuid.uuid4().hex
    _request_id.set(chosen)
    return chosen
