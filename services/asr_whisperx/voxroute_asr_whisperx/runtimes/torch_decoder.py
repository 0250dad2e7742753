# pyright: basic
"""Decodes batches of windows, of which nobody waits for a single step.

Steps are launched ahead of the GPU, and which windows are done is read while it has others to do.
Windows that are done make room: once half of the rows are done, the others go on in a graph of
half as many.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from voxroute_asr_whisperx.runtimes.runtime import MAX_POSITIONS, MAX_TOKENS, Search
from voxroute_asr_whisperx.runtimes.torch_graphs import Graphs
from voxroute_asr_whisperx.runtimes.torch_network import LayerCache, Network
from voxroute_asr_whisperx.runtimes.torch_search import Rules, Tokens

_LENGTH_STEP = 64  # positions by which what graphs read of a text differs
_SHORT_PROMPT = 8  # tokens; of longer prompts there are too many to make graphs for
_POSITIONS = MAX_TOKENS + _SHORT_PROMPT
_MOST_BEAMS = 20  # that anybody may ask for; of one window, after the longest prompt
_STEPS = 4  # launched at once; as many again are waiting when they end


@dataclass(frozen=True, slots=True)
class _Layout:
    """How the memory is used: what graphs are made for."""

    rules: Rules
    n_positions: int


@dataclass(frozen=True, slots=True)
class _Room:
    """The memory in one layout."""

    layout: _Layout
    n_windows: int
    caches: list[LayerCache]
    tokens: Tokens

    def rows(self, n: int) -> int:
        """In how many rows so many windows are decoded."""
        return _rows(n, self.n_windows)


class Decoder:
    """One batch at a time: whoever calls sees to that.

    Memory is taken at once, for `n_windows` with short prompts and `n_beams`; with more there is
    room for fewer windows, which are decoded one part after the other.
    """

    def __init__(
        self, network: Network, graphs: Graphs, n_windows: int, n_beams: int, end: int
    ) -> None:
        """`end` is the end token."""
        self._network = network
        self._graphs = graphs
        self._n_windows = n_windows
        self._end = end
        self._rooms: dict[_Layout, _Room] = {}
        self._n_slots = max(n_windows * _POSITIONS * n_beams, MAX_POSITIONS * _MOST_BEAMS)
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

    def rows(self, n: int) -> int:
        """In how many rows so many windows are encoded."""
        return _rows(n, self._n_windows)

    def decode(
        self,
        encoded: Tensor,
        n_windows: int,
        prompt: Sequence[int],
        search: Search,
        *,
        n_tokens: int,
        suppressed_first: Sequence[int],
        speech: int,
    ) -> tuple[list[tuple[list[int], float]], Tensor]:
        """The text of each window and the mean logarithm of its tokens' probabilities.

        And the logits of what follows the token at place `speech` of the prompt. `encoded` is
        (rows, positions, width), of which the first `n_windows` count.
        """
        room = self._room(search, len(prompt) + n_tokens)
        texts: list[tuple[list[int], float]] = []
        logits: list[Tensor] = []
        for begin in range(0, n_windows, room.n_windows):
            n = min(room.n_windows, n_windows - begin)
            audio = encoded[begin : begin + room.rows(n)]
            rows = len(audio)
            before = torch.tensor([list(prompt)[:-1]] * rows, device=audio.device)
            key = ("prompt", room.layout, rows, len(prompt), speech)
            (first,) = self._graphs.run(
                key if len(prompt) <= _SHORT_PROMPT else None,
                lambda tokens, audio: self._read(room, tokens, audio, speech),
                before,
                audio,
            )
            logits.append(first[:n])
            room.tokens.begin(n, prompt, search, n_tokens, suppressed_first)
            texts += self._texts(room, n, rows, len(prompt), n_tokens)
        return texts, torch.cat(logits)

    def prepare(self, search: Search, rows: int) -> None:
        """Makes the graphs of a search of so many rows that most batches need."""
        room = self._room(search, _POSITIONS)
        room.tokens.begin(0, [self._end], search, MAX_TOKENS, [])
        for n_read in (_LENGTH_STEP, 2 * _LENGTH_STEP):
            self._step(room, rows, n_read)
        self._keep(room, [0], rows)

    def _room(self, search: Search, n_positions: int) -> _Room:
        n_positions = _POSITIONS if n_positions <= _POSITIONS else MAX_POSITIONS
        layout = _Layout(Rules.of(search), n_positions)
        if layout not in self._rooms:
            net, k = self._network, search.beam_size
            n = min(self._n_windows, self._n_slots // (n_positions * k))
            shape = n, net.n_heads, n_positions, k, net.width // net.n_heads
            size = n * n_positions * k * net.width
            caches = [
                LayerCache(heard_keys, heard, keys[:size].view(shape), values[:size].view(shape))
                for heard_keys, heard, keys, values in self._memory
            ]
            tokens = Tokens(
                n,
                layout.rules,
                n_positions=n_positions,
                n_vocabulary=net.n_vocabulary,
                end=self._end,
                device=net.device,
            )
            self._rooms[layout] = _Room(layout, n, caches, tokens)
        return self._rooms[layout]

    def _read(self, room: _Room, tokens: Tensor, audio: Tensor, speech: int) -> tuple[Tensor, ...]:
        hidden, _ = self._network.read(tokens, audio, keep=room.caches)
        return (self._network.logits(hidden[:, speech]),)

    def _texts(
        self, room: _Room, n: int, rows: int, n_prompt: int, n_tokens: int
    ) -> list[tuple[list[int], float]]:
        """What is written in the first `n` rows, after a prompt that has been read."""
        found: dict[int, tuple[list[int], float]] = {}
        asked: list[_Done] = []
        n_launched = 0
        while n_launched < n_tokens:
            for _ in range(min(_STEPS, n_tokens - n_launched)):
                n_launched += 1
                self._step(room, rows, n_prompt + n_launched)
            asked.append(_Done(room.tokens.is_done[:rows]))
            if len(asked) == 1:
                continue
            going = asked.pop(0).going()
            if not going:
                break
            if room.rows(len(going)) < rows:
                found |= room.tokens.ended(rows)
                asked.clear()
                rows = room.rows(len(going))
                self._keep(room, going, rows)
        found |= room.tokens.ended(rows)
        return [found[place] for place in range(n)]

    def _step(self, room: _Room, rows: int, n_read: int) -> None:
        n_positions = min(-(-n_read // _LENGTH_STEP) * _LENGTH_STEP, room.layout.n_positions)

        def step() -> tuple[Tensor, ...]:
            mask = room.tokens.mask(rows, n_positions, self._network.dtype)
            caches = [cache.first(rows) for cache in room.caches]
            following, position = room.tokens.next[:rows], room.tokens.position
            hidden = self._network.step(following, position, mask, caches)
            room.tokens.advance(self._network.logits(hidden))
            return ()

        self._graphs.run(("step", room.layout, rows, n_positions), step)

    def _keep(self, room: _Room, going: Sequence[int], rows: int) -> None:
        """Moves the windows of these rows to the front, of `rows` that are left."""

        def keep(places: Tensor, n: Tensor) -> tuple[Tensor, ...]:
            room.tokens.keep(places, n)
            for cache in room.caches:
                cache.keep(places)
            return ()

        device = self._network.device
        places = torch.tensor([*going, *[0] * (rows - len(going))], device=device)
        n = torch.tensor([len(going)], device=device)
        self._graphs.run(("keep", room.layout, rows), keep, places, n)


def _rows(n: int, most: int) -> int:
    """The batch sizes that there are graphs for: a power of two, or all there is room for."""
    return min(1 << (n - 1).bit_length(), most) if n else 0


class _Done:
    """Which rows are done at a point of the device's work; asked for now, read later."""

    def __init__(self, is_done: Tensor) -> None:
        self._event = torch.cuda.Event() if is_done.is_cuda else None
        if self._event is None:
            self._is_done = is_done.clone()
            return
        self._is_done = torch.empty(is_done.shape, dtype=torch.bool, pin_memory=True)
        self._is_done.copy_(is_done, non_blocking=True)
        self._event.record(torch.cuda.current_stream(is_done.device))

    def going(self) -> list[int]:
        """The rows that are not done; waits for that point."""
        if self._event is not None:
            self._event.synchronize()
        return (~self._is_done).nonzero()[:, 0].tolist()
