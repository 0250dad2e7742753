"""A connection to a NATS server, as the client of nats-py has it, and what that lacks."""

import asyncio
import ssl
from collections.abc import Coroutine
from typing import Any, TypeVar

import nats.errors
from nats.aio.client import Client, Srv

from voxroute_orchestrator.jetstream.access import Access

T = TypeVar("T")

# of a server: after any other error that it tells, it ends the connection or is left
_OPEN_STILL = ("stale connection", "permissions violation")
_IN_THE_CLEAR = "the server does not ask for TLS; it is not told who calls"


class KeptOutError(Exception):
    """The server does not let the client in, or the client will not talk to it."""


class Connection(Client):
    """One that never speaks in the clear where it is not to, and always comes back.

    The client (2.16.0) uses TLS where the server says so itself, whatever the address says: whoever
    stands between them takes that out, and has the password. It forgets the connection of a try
    that failed after it was made. It closes for good when a server ends the connection with an
    error, as it does when a user is taken out; and who it is it knows from the start alone.
    """

    def __init__(self, access: Access) -> None:
        super().__init__()
        self._access = access
        self._was_in = False

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:  # noqa: FBT001, FBT002 - the client's own
        if initial_connection and self._access.tls and not info.get("tls_required"):
            raise nats.errors.Error(_IN_THE_CLEAR)
        await super()._process_info(info, initial_connection)

    async def _connect_to_server(self, s: Srv) -> None:
        self._hang_up()
        if self.is_reconnecting and self._access.renew is not None:
            self._identify(self._access.renew())
        await super()._connect_to_server(s)

    def _hang_up(self) -> None:
        """Ends the connection of an earlier try at once: a goodbye over TLS would take its time."""
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()

    def _identify(self, access: Access) -> None:
        """Is from now on who the files say now."""
        self._access = access
        who = access.identity
        self.options |= {
            "tls": access.tls,
            "user": who.get("user"),
            "password": who.get("password"),
        }
        self._signature_cb = self._user_jwt_cb = None
        self._user_credentials = who.get("user_credentials")
        self._nkeys_seed_str = who.get("nkeys_seed_str")
        if self._user_credentials or self._nkeys_seed_str:
            self._setup_nkeys_connect()

    async def _process_connect_init(self) -> None:
        try:
            await super()._process_connect_init()
            self._check_in()
            self._was_in = True
        except (OSError, TimeoutError, nats.errors.Error) as error:
            # At a start that stays so; later somebody may be changing who is let in, and with what.
            if not self._was_in and _keeps_out(error):
                self._hang_up()
                self._transport = None  # where TLS has failed it never says that it is closed
                raise KeptOutError(said(error)) from error
            raise
        except Exception as error:  # a file that is being written; the client would not try again
            raise nats.errors.Error(f"who calls cannot be told: {type(error).__name__}") from error

    def _check_in(self) -> None:
        """Raises nats.errors.Error where the server has hung up: the client does not look."""
        if self._status == Client.CONNECTED:
            return
        for name in ("_reading_task", "_ping_interval_task", "_flusher_task"):
            task = getattr(self, name)
            if task is not None:
                task.cancel()
        raise nats.errors.Error("the server has ended the connection")

    async def _process_err(self, err_msg: str) -> None:
        if any(kind in err_msg.lower() for kind in _OPEN_STILL):
            await super()._process_err(err_msg)
            return
        await self._error_cb(nats.errors.Error(err_msg.strip("'")))
        await self._process_op_err(nats.errors.Error(err_msg))


def _keeps_out(error: Exception) -> bool:
    """Whether it is what a server, or a client that looks at its certificate, ends a try with."""
    text = str(error).lower()
    return (
        "authorization violation" in text
        or _IN_THE_CLEAR.lower() in text
        or (isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError))
    )


def said(error: BaseException) -> str:
    """An error in a few words."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


async def alone(work: Coroutine[Any, Any, T]) -> T:
    """What something of the client gives, as a task of its own.

    The client (2.16.0) swallows the cancellation of whoever waits for it, who would then go on.
    """
    return await asyncio.shield(asyncio.ensure_future(work))
