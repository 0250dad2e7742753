"""The places of a service: who has them, what a client owes for one, and who gives way.

A client pays for the time in which the service waits for it, with bytes of audio or of a file, with
items or segments; any other message pays nothing. Work for it on the device stops that clock. While
places are free it may owe as long as `--idle-timeout-s`. Where all are taken,

1. a call whose client owes more than GRACE_S gives way, the one that owes most first;
2. where none of them is behind, the youngest call of the client that has the most, if that is more
   than an equal share and the newcomer's client has less.

The newcomer waits at the door for that moment; where nobody owes and nobody has too much, it is
refused at once. A live stream is always ahead of what it owes: a second of speech has hundreds of
bytes even in the leanest codec.
"""

import asyncio
import contextlib
import contextvars
import itertools
import math
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass, field

from google.protobuf.message import Message

from voxroute_serving.errors import ClientLimitError, IdleStreamError, ServingError

GRACE_S = 2.0
"""What a client may owe while others wait for its place, seconds."""
CREDIT_S = 10.0
"""How far it may be ahead, seconds: a live recording may come in parts as long as that."""
ITEM_S = 10.0
"""What an item or a segment pays, seconds: subtitles of live speech come so seldom."""

_AHEAD_S = 1.0  # who is ahead by less will soon owe something
_DOOR_S = 15.0  # how long a newcomer waits for a call that gives way
_LINE = 8  # newcomers that may wait for each call that may give way
_LOOK_S = 0.05  # between two looks at who owes how much, while somebody waits
_SLOW_FOR_S = 60.0  # for so long a connection whose call gave way is served after others
_MAX_SLOW = 4096
_RETRY_S = 2.0

_SAMPLE_BYTES = 2  # s16le
_LIVE_SHARE = 1 / 8  # of live samples; a film over a slow line is behind live speech by no more

_UNPAID = {"config", "finish"}  # every stream of the contracts calls its first and last message so


def all_taken(n_places: int, whose: str) -> str:
    """How a caller is told that there is no place."""
    if n_places == 1:
        return f"the only place {whose} is taken"
    return f"all {n_places} places {whose} are taken"


def worth_s(message: object, bytes_per_s: float) -> float:
    """The seconds that a message of a request stream pays for."""
    if isinstance(message, Message):
        for field_, value in message.ListFields():
            if field_.type == field_.TYPE_BYTES:
                return _pay_s(len(value), bytes_per_s)
            if field_.type == field_.TYPE_MESSAGE and field_.name not in _UNPAID:
                return ITEM_S if value.ByteSize() else 0.0
    return 0.0


def pcm_bytes_per_s(message: object) -> float:
    """What raw samples cost a second, where a message says that such follow; else 0.

    A share of what live ones have: who sends fewer is no live source, and 64 bytes a second of
    samples are none at all.
    """
    config = getattr(message, "config", None)
    pcm = getattr(getattr(config, "audio", None), "pcm", None)
    if pcm is None or not pcm.sample_rate_hz:
        return 0.0
    return pcm.sample_rate_hz * max(1, pcm.channels) * _SAMPLE_BYTES * _LIVE_SHARE


def _pay_s(n_bytes: int, bytes_per_s: float) -> float:
    if not n_bytes:
        return 0.0
    return n_bytes / bytes_per_s if bytes_per_s else math.inf


class Caller:
    """One call's client: its name, what it owes, and how its call is ended early."""

    def __init__(self, limit_s: float, bytes_per_s: float = 0.0) -> None:
        """`limit_s` is what the client may owe, 0 for any; `bytes_per_s` what a second costs."""
        self.client = self.peer = ""
        self._limit_s = limit_s
        self._bytes_per_s = bytes_per_s
        self._task: asyncio.Task[object] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._error: ServingError | None = None
        self._lock = threading.Lock()  # work on texts has a thread of its own
        self._waits = 0  # of the service for the client
        self._works = 0  # of the client's on the device
        self._owed_s = 0.0
        self._since = 0.0

    @property
    def owed_s(self) -> float:
        """What the client owes now, seconds; negative where it is ahead."""
        with self._lock:
            return self._settled(0, 0)

    @property
    def is_behind(self) -> bool:
        """Whether the client will soon owe something, and nothing of it is being worked on."""
        with self._lock:
            return self._settled(0, 0) > -_AHEAD_S and not self._works

    @contextlib.contextmanager
    def watching(self) -> Generator[None]:
        """Ends the block when the client owes too much or gives way. Raises the error for it."""
        self._task = asyncio.current_task()
        if self._limit_s:
            self._look_after(self._limit_s)
        try:
            yield
        except asyncio.CancelledError:
            if self._error is None:
                raise
            raise self._error from None
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self._task = None

    def end(self, error: ServingError) -> None:
        """Lets the call end with the error, once."""
        if self._task is not None and self._error is None:
            self._error = error
            self._task.cancel()

    @contextlib.contextmanager
    def waiting(self) -> Generator[None]:
        """Counts the block as a wait for the client."""
        with self._lock:
            self._settled(1, 0)
        try:
            yield
        finally:
            with self._lock:
                self._settled(-1, 0)

    @contextlib.contextmanager
    def working(self) -> Generator[None]:
        """Counts the block as work for the client: it owes nothing for it. From any thread."""
        with self._lock:
            self._settled(0, 1)
        try:
            yield
        finally:
            with self._lock:
                self._settled(0, -1)

    @contextlib.contextmanager
    def reading(self, n_bytes: int) -> Generator[None]:
        """Counts the block as a wait until the client has room; reading fast enough is free."""
        with self._lock:
            before_s = self._settled(1, 0)
        try:
            yield
        finally:
            with self._lock:
                waited_s = self._settled(-1, 0) - before_s
                self._owed_s -= max(0.0, min(waited_s, _pay_s(n_bytes, self._bytes_per_s)))

    def received(self, message: object) -> None:
        """Pays with a message of the client's."""
        with self._lock:
            if self._bytes_per_s:
                self._bytes_per_s = max(self._bytes_per_s, pcm_bytes_per_s(message))
            self._owed_s = max(-CREDIT_S, self._owed_s - worth_s(message, self._bytes_per_s))

    def _settled(self, more_waits: int, more_works: int) -> float:
        """What is owed at this moment, from which on there are more waits or more work."""
        now = time.monotonic()
        if self._waits and not self._works:
            self._owed_s += now - self._since
        self._since = now
        self._waits += more_waits
        self._works += more_works
        return self._owed_s

    def _look_after(self, delay_s: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._look)

    def _look(self) -> None:
        owed_s = self.owed_s
        if owed_s < self._limit_s:
            self._look_after(max(0.01, self._limit_s - max(0.0, owed_s)))
            return
        self.end(
            IdleStreamError(
                f"the client neither sent nor read enough for {self._limit_s:g} s while the"
                " service waited for it; start the call again, and keep sending or reading"
            )
        )


_current: contextvars.ContextVar[Caller | None] = contextvars.ContextVar("caller", default=None)


def enter(caller: Caller) -> None:
    """Makes it the caller of the current task, and of those that it starts."""
    _current.set(caller)


def client() -> str:
    """The name of the current task's caller; "" where nobody calls."""
    caller = _current.get()
    return caller.client if caller is not None else ""


def working() -> contextlib.AbstractContextManager[None]:
    """Counts the block as work for the current caller."""
    caller = _current.get()
    return caller.working() if caller is not None else contextlib.nullcontext()


_numbers = itertools.count()


@dataclass(slots=True, eq=False)
class _Holder:
    """A call that has a place, or waits for one at the door."""

    caller: Caller | None
    client: str
    number: int = field(default_factory=lambda: next(_numbers))
    gives_way: bool = False

    @property
    def owed_s(self) -> float:
        return self.caller.owed_s if self.caller is not None else 0.0

    @property
    def may_go(self) -> bool:
        """Whether the place may soon be free: who waits for another is waiting in vain."""
        return self.gives_way or (self.caller is not None and self.caller.is_behind)


@dataclass(slots=True, eq=False)
class _Newcomer:
    """A call at the door."""

    holder: _Holder
    admitted: "asyncio.Future[bool]"


class Places:
    """At most `capacity` calls at once. Lives on one event loop."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._holders: set[_Holder] = set()
        self._line: list[_Newcomer] = []
        self._look: asyncio.TimerHandle | None = None
        self._slow: dict[str, float] = {}  # connections and when a call of theirs gave way

    @property
    def taken(self) -> int:
        """Places that are taken."""
        return len(self._holders)

    @contextlib.asynccontextmanager
    async def one(self, full: ServingError) -> AsyncGenerator[None]:
        """Holds a place for the length of the block. Raises `full` where there is none."""
        caller = _current.get()
        holder = _Holder(caller, caller.client if caller is not None else "")
        if self._line or self.taken >= self._capacity:
            await self._wait(holder, full)
        else:
            self._holders.add(holder)
        try:
            yield
        finally:
            self._holders.discard(holder)
            self._serve()

    async def _wait(self, holder: _Holder, full: ServingError) -> None:
        newcomer = _Newcomer(holder, asyncio.get_running_loop().create_future())
        self._line.append(newcomer)
        self._serve()
        try:
            async with asyncio.timeout(_DOOR_S):
                admitted = await newcomer.admitted
        except BaseException as error:
            if newcomer in self._line:
                self._line.remove(newcomer)
            self._holders.discard(holder)  # admitted in the moment of leaving
            self._serve()
            if isinstance(error, TimeoutError):
                raise full from None
            raise
        if not admitted:
            raise full

    def _serve(self) -> None:
        """Lets newcomers in, sends calls away for them, and refuses those without hope."""
        if self._look is not None:
            self._look.cancel()
            self._look = None
        self._line.sort(key=self._turn())
        while self._line and self.taken < self._capacity:
            newcomer = self._line.pop(0)
            if not newcomer.admitted.done():
                self._holders.add(newcomer.holder)
                newcomer.admitted.set_result(True)
        if not self._line:
            return
        self._make_room()
        hope = sum(holder.may_go for holder in self._holders)
        for newcomer in self._line[hope * _LINE :]:
            if not newcomer.admitted.done():
                newcomer.admitted.set_result(False)
        del self._line[hope * _LINE :]
        if self._line:
            self._look = asyncio.get_running_loop().call_later(_LOOK_S, self._serve)

    def _turn(self) -> "_Turn":
        return _Turn(self._counts(), self._slow)

    def _counts(self) -> Counter[str]:
        """Places of each client that it is not giving up."""
        return Counter(holder.client for holder in self._holders if not holder.gives_way)

    def _make_room(self) -> None:
        """Sends away as many calls as may be, for those at the door in their order."""
        n_leaving = sum(holder.gives_way for holder in self._holders)
        counts = self._counts()
        for number, newcomer in enumerate(self._line):
            if number >= n_leaving and not self._send_one_away(newcomer.holder.client, counts):
                return
            counts[newcomer.holder.client] += 1

    def _send_one_away(self, client: str, counts: Counter[str]) -> bool:
        staying = [one for one in self._holders if one.caller is not None and not one.gives_way]
        slowest = max(staying, key=lambda one: one.owed_s, default=None)
        if slowest is not None and slowest.owed_s > GRACE_S:
            self._remember(slowest)
            self._send_away(slowest, counts, _too_slow())
            return True
        if any(one.may_go for one in staying):
            return False  # it will soon owe too much; nobody who works gives way for that moment
        most = max(counts, key=lambda name: counts[name], default="")
        share = max(1, self._capacity // len({*counts, client}))
        if counts[most] <= share or counts[most] <= counts[client] + 1:
            return False
        youngest = max(
            (one for one in staying if one.client == most),
            key=lambda one: one.number,
            default=None,
        )
        if youngest is None:
            return False
        self._send_away(youngest, counts, _too_many(most))
        return True

    def _send_away(self, holder: _Holder, counts: Counter[str], error: ServingError) -> None:
        holder.gives_way = True
        counts[holder.client] -= 1
        if holder.caller is not None:
            holder.caller.end(error)

    def _remember(self, holder: _Holder) -> None:
        if len(self._slow) >= _MAX_SLOW:
            self._slow.clear()
        if holder.caller is not None:
            self._slow[holder.caller.peer] = time.monotonic()


@dataclass(slots=True)
class _Turn:
    """The order at the door: who was slow lately goes last, whose client has the least first."""

    counts: Counter[str]
    slow: dict[str, float]

    def __call__(self, newcomer: _Newcomer) -> tuple[bool, int, int]:
        holder = newcomer.holder
        peer = holder.caller.peer if holder.caller is not None else ""
        was_slow = self.slow.get(peer, -math.inf) > time.monotonic() - _SLOW_FOR_S
        return was_slow, self.counts[holder.client], holder.number


def _too_slow() -> IdleStreamError:
    return IdleStreamError(
        "others wait for a place and this client kept the service waiting; start the call again,"
        " and send what there is at once"
    )


def _too_many(client: str) -> ClientLimitError:
    return ClientLimitError(
        f"all places are taken, {client} has more than its share, and another client needs one;"
        " start this call again when one of the others has ended",
        retry_after_s=_RETRY_S,
    )
