# pyright: basic
"""Decodes windows as they come, in rows of one batch, of which nobody waits for a single step.

Steps are launched ahead of the GPU, and which windows are done is read while it has others to do.
Windows that are done leave their rows to those that wait, from whatever call; where none waits,
the last ones move together, into a graph of fewer rows.
"""

import heapq
import itertools
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from voxroute_asr_whisperx.runtimes.runtime import MAX_POSITIONS, MAX_TOKENS, Generation, Search
from voxroute_asr_whisperx.runtimes.torch_graphs import Graphs
from voxroute_asr_whisperx.runtimes.torch_network import LayerCache, Network
from voxroute_asr_whisperx.runtimes.torch_search import Tokens, Wishes

MOST_AT_ONCE = 16  # windows that begin together: more would make the others wait
_LENGTH_STEP = 64  # positions by which what graphs read of a text differs
_SHORT_PROMPT = 8  # tokens; of longer prompts there are too many to make graphs for
_POSITIONS = MAX_TOKENS + _SHORT_PROMPT
_MOST_BEAMS = 20  # that anybody may ask for; of one window, after the longest prompt
_STEPS = 4  # launched at once; as many again are waiting when they end
_FEW = 4  # rows; while others go on, windows begin by so many, for it takes as long as half a step
_TURN_S = 0.02  # by which a call of one more window waits longer: somebody waits for a small one


@dataclass(frozen=True, slots=True)
class Special:
    """Tokens that are no text."""

    end: int
    no_speech: int
    blank: tuple[int, ...]
    """What no text begins with."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """How the memory is used: what graphs are made for."""

    n_beams: int
    n_positions: int


@dataclass(slots=True, eq=False)
class _Window:
    """What is decoded in a row."""

    audio: Tensor
    """(positions, width)"""
    prompt: Sequence[int]
    speech: int
    """The place in the prompt whose next token tells whether somebody speaks."""
    search: Search
    n_tokens: int
    layout: _Layout
    found: "Future[Generation]" = field(default_factory=Future[Generation])
    began: int = 0
    """The steps of all windows before its first."""

    @property
    def alike(self) -> tuple[object, ...]:
        """Windows for which this is equal may begin together."""
        return self.layout, len(self.prompt), self.speech, self.search.suppressed


@dataclass(frozen=True, slots=True)
class _Room:
    """The memory in one layout."""

    layout: _Layout
    n_rows: int
    caches: list[LayerCache]
    """With a row more, for what no window has."""
    tokens: Tokens
    windows: list[_Window | None]
    """Of each row."""

    def size(self, n: int) -> int:
        """In how many rows so many windows are decoded."""
        return size_of(n, self.n_rows)

    @property
    def n_used(self) -> int:
        """Rows up to the last that has a window."""
        return max((row for row, one in enumerate(self.windows, 1) if one), default=0)

    @property
    def free(self) -> list[int]:
        """Rows without a window."""
        return [row for row, one in enumerate(self.windows) if one is None]


class Decoder:
    """All windows of a model on one device. Its thread begins with the first.

    Memory is taken at once, for `n_rows` windows with short prompts and `n_beams`; with longer ones
    or more beams there is room for fewer, and they wait until no others are decoded.
    """

    def __init__(
        self, network: Network, graphs: Graphs, n_rows: int, n_beams: int, special: Special
    ) -> None:
        self._network = network
        self._graphs = graphs
        self._n_rows = n_rows
        self._n_beams = n_beams
        self._special = special
        self._rooms: dict[_Layout, _Room] = {}
        self._masks: dict[tuple[int, ...], Tensor] = {}
        self._n_steps = 0
        self._waiting: list[tuple[float, int, _Window]] = []
        self._count = itertools.count()
        self._arrived = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_closed = False
        n_windows = n_rows + 1
        self._n_slots = max(n_windows * _POSITIONS * n_beams, 2 * MAX_POSITIONS * _MOST_BEAMS)
        audio = n_windows, network.n_heads, network.n_positions, network.width // network.n_heads
        # what was never written must be numbers: a step reads it, and makes nothing of it
        text = (self._n_slots * network.width,)
        shapes = (audio, audio, text, text)
        self._memory = [
            [torch.zeros(shape, device=network.device, dtype=network.dtype) for shape in shapes]
            for _ in range(network.n_layers)
        ]

    @staticmethod
    def window_bytes(network: Network, n_beams: int) -> int:
        """The memory of a window."""
        positions = network.n_positions + _POSITIONS * n_beams
        return 2 * positions * network.n_layers * network.width * network.dtype.itemsize

    def decode(
        self, encoded: Tensor, n_windows: int, prompt: Sequence[int], search: Search, speech: int
    ) -> list[Generation]:
        """The text of each window.

        `encoded` is (rows, positions, width), of which the first `n_windows` count; `speech` is the
        place in the prompt whose next token tells whether somebody speaks.
        """
        n_tokens = min(search.max_tokens, MAX_POSITIONS - len(prompt) + 1)
        is_short = len(prompt) + n_tokens <= _POSITIONS
        layout = _Layout(
            max(search.beam_size, self._n_beams),
            _POSITIONS if is_short else MAX_POSITIONS,
        )
        windows = [
            _Window(audio, prompt, speech, search, n_tokens, layout)
            for audio in encoded[:n_windows]
        ]
        turn = time.monotonic() + _TURN_S * n_windows
        with self._arrived:
            for window in windows:
                heapq.heappush(self._waiting, (turn, next(self._count), window))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="decoder", daemon=True)
                self._thread.start()
            self._arrived.notify()
        return [window.found.result() for window in windows]

    def prepare(self, prompt: Sequence[int]) -> None:
        """Makes the graphs that most windows need."""
        layout = _Layout(self._n_beams, _POSITIONS)
        room = self._room_of(layout)
        search = Search(self._n_beams)
        nothing = torch.zeros(
            self._network.n_positions,
            self._network.width,
            device=self._network.device,
            dtype=self._network.dtype,
        )
        for n in sizes(self._n_rows):
            if n <= MOST_AT_ONCE:
                begun = [_Window(nothing, prompt, 0, search, MAX_TOKENS, layout)] * n
                self._begin(room, begun, list(range(n)))
            for n_read in (_LENGTH_STEP, 2 * _LENGTH_STEP):
                self._step(room, n, n_read)
            self._best(room, [0] * n)
            self._move(room, [0] * n, [0] * n)
        room.windows[:] = [None] * room.n_rows
        room.tokens.is_done.fill_(True)

    def close(self) -> None:
        """Ends the thread: nobody waits for a text."""
        with self._arrived:
            self._is_closed = True
            self._arrived.notify()
        if self._thread is not None:
            self._thread.join()

    # --- the thread --------------------------------------------------------------------------

    @torch.inference_mode()
    def _work(self) -> None:
        room: _Room | None = None
        begun: list[_Window] = []
        asked: list[_Done] = []
        found: list[_Found] = []
        while True:
            with self._arrived:
                while not (self._waiting or asked or found or self._is_closed):
                    self._arrived.wait()
                if self._is_closed:
                    return
                first = self._waiting[0][2] if self._waiting else None
            try:
                if first and not (room and room.n_used):
                    room = self._room_of(first.layout)
                assert room is not None  # noqa: S101 - something waits, or has begun
                begun = self._next(room)
                if begun:
                    self._begin(room, begun, room.free[: len(begun)])
                self._go_on(room, asked, found)
            except BaseException as error:  # noqa: BLE001 - goes to all who wait for a text
                self._give_up([*begun, *(one for text in found for one in text.windows)], error)
                asked.clear()
                found.clear()
            begun = []

    def _next(self, room: _Room) -> list[_Window]:
        """Those that begin now, of those that wait; none before others have left another layout."""
        with self._arrived:
            n_free = len(room.free)
            if n_free < min(_FEW, len(self._waiting)):
                return []
            begun: list[_Window] = []
            while self._waiting and len(begun) < min(n_free, MOST_AT_ONCE):
                window = self._waiting[0][2]
                if window.layout != room.layout or (begun and window.alike != begun[0].alike):
                    break
                begun.append(heapq.heappop(self._waiting)[2])
            return begun

    def _go_on(self, room: _Room, asked: "list[_Done]", found: "list[_Found]") -> None:
        """Takes all windows some steps on, and hands out what was done before."""
        n_found = len(found)  # in `found` until they are handed out: a failure is told to them too
        if n_used := room.n_used:
            size = room.size(n_used)
            n_read = max(len(one.prompt) + self._n_steps - one.began for one in room.windows if one)
            for step in range(_STEPS):
                self._step(room, size, n_read + step)
            self._n_steps += _STEPS
            asked.append(_Done(room.tokens.is_done[:size], tuple(room.windows[:size])))
        if asked and (len(asked) > 1 or not n_used):
            done = [
                (row, window)
                for row, window in asked.pop(0).windows()
                if room.windows[row] is window
            ]
            if done:
                rows, windows = zip(*done, strict=True)
                found.append(_Found(windows, *self._best(room, rows)))
                self._leave(room, rows)
        for one in found[:n_found]:
            one.hand_out()
        del found[:n_found]

    def _leave(self, room: _Room, rows: Sequence[int]) -> None:
        """Empties these rows, and moves the windows behind them if nobody waits for rows."""
        for row in rows:
            room.windows[row] = None
        left = [row for row, one in enumerate(room.windows) if one]
        size = room.size(len(left))
        if size < room.size(room.n_used) and not self._waiting:
            moved = [row for row in left if row >= size]
            to = room.free[: len(moved)]
            self._move(room, moved, to)
            for old, new in zip(moved, to, strict=True):
                room.windows[new], room.windows[old] = room.windows[old], None

    def _give_up(self, begun: Sequence[_Window], error: BaseException) -> None:
        """Tells everybody who waits for a text that there will be none."""
        with self._arrived:
            lost = [*begun, *(window for _, _, window in self._waiting)]
            self._waiting.clear()
        for room in self._rooms.values():
            lost += [one for one in room.windows if one]
            room.windows[:] = [None] * room.n_rows
            room.tokens.is_done.fill_(True)
        for window in lost:
            if not window.found.done():
                window.found.set_exception(error)

    def _room_of(self, layout: _Layout) -> _Room:
        if layout not in self._rooms:
            net, k, n_positions = self._network, layout.n_beams, layout.n_positions
            n = min(self._n_rows + 1, self._n_slots // (n_positions * k))
            shape = n, net.n_heads, n_positions, k, net.width // net.n_heads
            size = n * n_positions * k * net.width
            caches = [
                LayerCache(
                    heard_keys[:n], heard[:n], keys[:size].view(shape), values[:size].view(shape)
                )
                for heard_keys, heard, keys, values in self._memory
            ]
            tokens = Tokens(
                n,
                k,
                n_positions=n_positions,
                n_vocabulary=net.n_vocabulary,
                end=self._special.end,
                suppressed_first=self._mask(self._special.blank),
                device=net.device,
            )
            self._rooms[layout] = _Room(layout, n - 1, caches, tokens, [None] * (n - 1))
        return self._rooms[layout]

    # --- what is a graph ---------------------------------------------------------------------

    def _begin(self, room: _Room, windows: Sequence[_Window], rows: Sequence[int]) -> None:
        """Reads the prompts of windows that are alike, into these rows."""
        size = room.size(len(windows))
        spare = size - len(windows)
        filled = [*windows, *[windows[0]] * spare]
        audio = torch.stack([one.audio for one in filled])
        numbers = [
            [*one.prompt, row, one.n_tokens, one.search.beam_size]
            for one, row in zip(filled, [*rows, *[room.n_rows] * spare], strict=True)
        ]
        n_prompt, speech = len(windows[0].prompt), windows[0].speech
        net = self._network

        def begin(
            audio: Tensor, numbers: Tensor, temperatures: Tensor, suppressed: Tensor
        ) -> tuple[Tensor, ...]:
            tokens, others = numbers[:, :n_prompt], numbers[:, n_prompt:]
            into, n_tokens, n_beams = others.T.contiguous()
            hidden, _ = net.read(tokens[:, :-1], audio, kept=(room.caches, into))
            silence = net.logits(hidden[:, speech]).softmax(-1)[:, self._special.no_speech]
            wishes = Wishes(n_tokens, n_beams, temperatures, suppressed)
            room.tokens.begin(into, n_prompt, tokens[:, -1], wishes, silence)
            return ()

        key = ("begin", room.layout, size, n_prompt, speech)
        self._graphs.run(
            key if n_prompt <= _SHORT_PROMPT else None,
            begin,
            audio,
            self._sent(numbers, torch.int64),
            self._sent([one.search.temperature for one in filled], torch.float32),
            self._mask(windows[0].search.suppressed),
        )
        for row, window in zip(rows, windows, strict=True):
            window.began = self._n_steps
            room.windows[row] = window

    def _step(self, room: _Room, size: int, n_read: int) -> None:
        n_positions = min(-(-n_read // _LENGTH_STEP) * _LENGTH_STEP, room.layout.n_positions)

        def step() -> tuple[Tensor, ...]:
            mask = room.tokens.mask(size, n_positions, self._network.dtype)
            caches = [cache.first(size) for cache in room.caches]
            following, position = room.tokens.next[:size], room.tokens.position[:size]
            hidden = self._network.step(following, position, mask, caches)
            room.tokens.advance(self._network.logits(hidden))
            return ()

        self._graphs.run(("step", room.layout, size, n_positions), step)

    def _best(self, room: _Room, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """See Tokens.best."""
        size = room.size(len(rows))
        places = self._sent([*rows, *[rows[0]] * (size - len(rows))], torch.int64)
        texts, figures = self._graphs.run(("best", room.layout, size), room.tokens.best, places)
        return texts, figures

    def _move(self, room: _Room, rows: Sequence[int], to: Sequence[int]) -> None:
        size = room.size(len(rows))
        nothing = [room.n_rows] * (size - len(rows))

        def move(rows: Tensor, to: Tensor) -> tuple[Tensor, ...]:
            room.tokens.move(rows, to)
            for cache in room.caches:
                cache.move(rows, to)
            return ()

        places = (self._sent([*part, *nothing], torch.int64) for part in (rows, to))
        self._graphs.run(("move", room.layout, size), move, *places)

    def _mask(self, tokens: tuple[int, ...]) -> Tensor:
        """What to add to logits so that these tokens are not written."""
        if tokens not in self._masks:
            made = torch.zeros(self._network.n_vocabulary)
            made[torch.tensor(tokens, dtype=torch.int64)] = -torch.inf
            self._masks[tokens] = made.to(self._network.device)
        return self._masks[tokens]

    def _sent(self, numbers: Sequence[Any], dtype: torch.dtype) -> Tensor:
        """On the device, without waiting for what it does."""
        made = torch.tensor(numbers, dtype=dtype)
        if self._network.device.type == "cuda":
            made = made.pin_memory().to(self._network.device, non_blocking=True)
        return made


def sizes(most: int) -> list[int]:
    """The numbers of rows that there are graphs for."""
    return [*(one for one in (1, 2, 4, 8, *range(16, most, 16)) if one < most), most]


def size_of(n: int, most: int) -> int:
    """The least of them for so many windows."""
    return next(one for one in sizes(most) if one >= n)


class _Copy:
    """Tensors of the device at a point of its work; asked for now, read later."""

    def __init__(self, *given: Tensor) -> None:
        self._event = torch.cuda.Event() if given[0].is_cuda else None
        if self._event is None:
            self._copies = [one.clone() for one in given]
            return
        self._copies = [torch.empty(one.shape, dtype=one.dtype, pin_memory=True) for one in given]
        for copy, one in zip(self._copies, given, strict=True):
            copy.copy_(one, non_blocking=True)
        self._event.record(torch.cuda.current_stream(given[0].device))

    def read(self) -> list[Tensor]:
        """Waits for that point."""
        if self._event is not None:
            self._event.synchronize()
        return self._copies


class _Done:
    """Which windows are done at a point of the device's work."""

    def __init__(self, is_done: Tensor, windows: Sequence[_Window | None]) -> None:
        self._copy = _Copy(is_done)
        self._windows = windows

    def windows(self) -> list[tuple[int, _Window]]:
        """Their rows, and they."""
        (is_done,) = self._copy.read()
        rows = is_done.nonzero()[:, 0].tolist()
        return [(row, window) for row in rows if (window := self._windows[row]) is not None]


class _Found:
    """The texts of windows, once the device has come so far."""

    def __init__(self, windows: Sequence[_Window], texts: Tensor, figures: Tensor) -> None:
        self.windows = windows
        self._copy = _Copy(texts, figures)

    def hand_out(self) -> None:
        """Gives them to those who wait."""
        texts, figures = self._copy.read()
        for window, text, (mean, silence) in zip(
            self.windows, texts.tolist(), figures.tolist(), strict=False
        ):
            window.found.set_result(Generation(text[: text[-1]], mean, silence))
