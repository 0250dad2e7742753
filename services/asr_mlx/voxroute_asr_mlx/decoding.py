# pyright: basic
"""Decodes a batch of windows with the rules of openai-whisper, each row until its own end.

mlx-whisper 0.4.3's decoding task takes a batch too, but
- its rule that timestamps never go back compares positions with token ids and so never applies;
- after a pair of timestamps it can forbid every token, and then writes "!" with probability NaN;
- its sampling is compiled with the random state frozen in, so that it draws the same sample again;
- a row that has ended costs as much as the others until the last one ends;
- each step builds masks over the vocabulary on the host.

Here a row that has ended leaves the batch, the rules are arithmetic on the device, and the host
reads the tokens of a step while the device computes the next one. The result of a row does not
depend on its companions: sampling takes its noise from the number of the step alone.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_whisper.tokenizer import Tokenizer

from voxroute_asr_mlx.network import LayerCache, Network, keep_rows
from voxroute_asr_mlx.segments import TOKEN_S

MAX_INITIAL_TIMESTAMP_S = 1.0  # s; openai-whisper's limit for the first timestamp of a window


@dataclass(frozen=True, slots=True)
class Prompt:
    """The tokens before the first one that is decoded."""

    tokens: tuple[int, ...]
    sot_index: int

    @classmethod
    def of(
        cls, tokenizer: Tokenizer, n_text_ctx: int, initial_prompt: str, hotwords: Sequence[str]
    ) -> "Prompt":
        """Hot words, then the text that precedes the recording, then the task.

        Together they take half of the decoder's positions at most (223 tokens); where both are
        there the hot words get half of that, as in faster-whisper.
        """
        room = n_text_ctx // 2 - 1
        hints = tokenizer.encode(" " + ", ".join(hotwords)) if hotwords else []
        before = tokenizer.encode(" " + initial_prompt.strip()) if initial_prompt.strip() else []
        hints = hints[: room // 2 if before else room]
        before = before[-(room - len(hints)) :]
        previous = (tokenizer.sot_prev, *hints, *before) if hints or before else ()
        return cls((*previous, *tokenizer.sot_sequence), len(previous))


@dataclass(frozen=True, slots=True)
class Decoded:
    """What the model wrote for one row, and how sure it was."""

    tokens: tuple[int, ...]
    text: str
    avg_log_prob: float
    no_speech_prob: float
    compression_ratio: float
    temperature: float


def compression_ratio(text: str) -> float:
    """Length of the text's bytes over their length after zlib; a loop compresses well."""
    encoded = text.encode()
    return len(encoded) / len(zlib.compress(encoded))


class Decoder:
    """Decodes rows of one model in one language and task. Lives for one batch."""

    def __init__(self, network: Network, tokenizer: Tokenizer, prompt: Prompt) -> None:
        self.network = network
        self.tokenizer = tokenizer
        self.prompt = prompt
        dims = network.dims
        self.max_tokens = min(dims.n_text_ctx // 2, dims.n_text_ctx - len(prompt.tokens))
        suppressed = np.zeros(tokenizer.eot, np.float32)
        suppressed[list(tokenizer.non_speech_tokens)] = -np.inf
        self.suppressed = mx.array(suppressed)
        mx.eval(self.suppressed)

    def decode(
        self,
        features: mx.array,
        temperature: float,
        stop: Callable[[], bool],
        streams: Sequence[mx.Stream | mx.Device],
    ) -> list[Decoded]:
        """What each row of audio features (rows, 1500, n_audio_state) says.

        The rows are spread over the streams, which run side by side. `stop` is asked before every
        step; once it is true the results are what was decoded so far.
        """
        n_rows = features.shape[0]
        n_lanes = min(len(streams), n_rows)
        bounds = [n_rows * lane // n_lanes for lane in range(n_lanes + 1)]
        lanes: list[_Lane] = []
        for lane, stream in enumerate(streams[:n_lanes]):
            with mx.stream(stream):
                rows = features[bounds[lane] : bounds[lane + 1]]
                lanes.append(_Lane(self, rows, temperature, stream))
        active = list(lanes)
        while active and not stop():
            for lane in active:
                lane.launch()
            for lane in active:
                lane.collect()
            active = [lane for lane in active if lane.rows]
        return [row.result(self.tokenizer, temperature) for lane in lanes for row in lane.all_rows]


@dataclass(slots=True)
class _Row:
    """What has been read of one row."""

    no_speech_prob: float = 0.0
    tokens: list[int] = field(default_factory=list)
    sum_log_prob: float = 0.0

    def result(self, tokenizer: Tokenizer, temperature: float) -> Decoded:
        text = tokenizer.decode(self.tokens).strip()
        return Decoded(
            tokens=tuple(self.tokens),
            text=text,
            # the end of the text counts as a token
            avg_log_prob=self.sum_log_prob / (len(self.tokens) + 1),
            no_speech_prob=self.no_speech_prob,
            compression_ratio=compression_ratio(text),
            temperature=temperature,
        )


@dataclass(slots=True)
class _Step:
    """The outcome of one step for the rows of that moment; arrays of shape (rows,)."""

    tokens: mx.array
    log_probs: mx.array


@dataclass(slots=True)
class _Past:
    """What the timestamp rules need to know of the tokens so far; arrays of shape (rows,)."""

    last: mx.array
    last_is_time: mx.array
    before_is_time: mx.array
    """Whether the token before the last is a timestamp; true where there is none."""
    earliest: mx.array
    """The lowest timestamp that may come next."""

    def keep(self, rows: mx.array) -> "_Past":
        return _Past(
            self.last[rows],
            self.last_is_time[rows],
            self.before_is_time[rows],
            self.earliest[rows],
        )

    @classmethod
    def after(cls, past: "_Past | None", tokens: mx.array, first_time: int) -> "_Past":
        """What is known once `tokens` have been written too."""
        is_time = tokens >= first_time
        before = mx.ones_like(is_time) if past is None else past.last_is_time
        earliest = mx.full(tokens.shape, first_time) if past is None else past.earliest
        # a segment's end is later than its start; the next one may begin where it ended
        closes = is_time & ~before
        later = mx.where(closes, tokens, tokens + 1)
        return cls(tokens, is_time, before, mx.where(is_time, later, earliest))


class _Lane:
    """Rows that are decoded in lockstep on one stream."""

    def __init__(
        self,
        decoder: Decoder,
        features: mx.array,
        temperature: float,
        stream: mx.Stream | mx.Device,
    ) -> None:
        self.decoder = decoder
        self.temperature = temperature
        self.stream = stream
        self.all_rows = [_Row() for _ in range(features.shape[0])]
        self.rows = list(self.all_rows)  # those that have not ended
        self.n_steps = 0
        self.unread: _Step | None = None
        self.read_next: _Step | None = None
        self.caches: list[LayerCache] = decoder.network.caches(features)
        self.no_speech: mx.array | None = None
        # noise that depends on the step alone
        self.keys = mx.random.split(mx.random.key(0), decoder.max_tokens) if temperature else None
        self.past: _Past | None = None

    def launch(self) -> None:
        """Starts the next step, if there is one."""
        self.read_next, self.unread = self.unread, None
        if self.n_steps >= self.decoder.max_tokens:
            return
        with mx.stream(self.stream):
            logits = self._first_logits() if self.past is None else self._next_logits(self.past)
            self.unread = self._choose(logits)
            mx.async_eval(self.unread.tokens, self.unread.log_probs)
        self.n_steps += 1

    def collect(self) -> None:
        """Reads the step before the one that runs; rows that have ended leave."""
        step = self.read_next
        if step is None:
            if self.unread is None:
                self.rows = []
            return
        self._read_no_speech()
        stay: list[int] = []
        end_of_text = self.decoder.tokenizer.eot
        tokens: Any = step.tokens.tolist()
        log_probs: Any = step.log_probs.tolist()
        for index, row in enumerate(self.rows):
            row.sum_log_prob += log_probs[index]
            if tokens[index] != end_of_text:
                row.tokens.append(tokens[index])
                stay.append(index)
        if self.unread is None:  # the longest text there is has been read
            stay = []
        if 0 < len(stay) < len(self.rows):
            self._keep(stay)
        self.rows = [self.rows[index] for index in stay]

    def _read_no_speech(self) -> None:
        if self.no_speech is not None:
            probabilities: Any = self.no_speech.tolist()
            for row, probability in zip(self.rows, probabilities, strict=True):
                row.no_speech_prob = probability
            self.no_speech = None

    def _keep(self, stay: list[int]) -> None:
        with mx.stream(self.stream):
            keep_rows(self.caches, stay)
            index = mx.array(stay)
            self.past = self.past.keep(index) if self.past is not None else None
            if self.unread is not None:
                self.unread = _Step(self.unread.tokens[index], self.unread.log_probs[index])

    def _first_logits(self) -> mx.array:
        network, prompt = self.decoder.network, self.decoder.prompt
        n_rows = len(self.rows)
        tokens = mx.broadcast_to(mx.array(prompt.tokens), (n_rows, len(prompt.tokens)))
        hidden = network.decode(tokens, 0, self.caches)
        logits = network.logits(hidden[:, -1])
        at_sot = network.logits(hidden[:, prompt.sot_index]) if len(prompt.tokens) > 1 else logits
        self.no_speech = mx.softmax(at_sot, axis=-1)[:, self.decoder.tokenizer.no_speech]
        return logits

    def _next_logits(self, past: _Past) -> mx.array:
        network = self.decoder.network
        offset = len(self.decoder.prompt.tokens) + self.n_steps - 1
        return network.logits(network.decode(past.last[:, None], offset, self.caches)[:, 0])

    def _choose(self, logits: mx.array) -> _Step:
        """The next token of each row and its log probability, by the timestamp rules.

        The vocabulary is text, then the end of the text, then task and language tokens, which a
        model never writes here, then timestamps. What a rule forbids is left out part by part.
        """
        tokenizer = self.decoder.tokenizer
        end, first_time = tokenizer.eot, tokenizer.timestamp_begin
        n_rows = logits.shape[0]
        text = logits[:, :end] + self.decoder.suppressed
        ending = logits[:, end : end + 1]
        times = logits[:, first_time:]
        time_ids = mx.arange(first_time, first_time + times.shape[1])[None]
        yes, no = mx.ones((n_rows, 1), dtype=mx.bool_), mx.zeros((n_rows, 1), dtype=mx.bool_)
        past = self.past
        if past is None:
            # a window begins with a timestamp, and early
            text_allowed, ending_allowed = no, no
            latest = first_time + round(MAX_INITIAL_TIMESTAMP_S / TOKEN_S)
            times = mx.where(time_ids <= latest, times, -mx.inf)
        else:
            opened = past.last_is_time & past.before_is_time  # text must follow
            closed = past.last_is_time & ~past.before_is_time  # a time or the end must follow
            text_allowed, ending_allowed = ~closed[:, None], yes
            times = mx.where(
                (time_ids >= past.earliest[:, None]) & ~opened[:, None], times, -mx.inf
            )
            # a timestamp, where all of them together are likelier than any other token
            likeliest = mx.maximum(
                mx.where(text_allowed, text.max(axis=-1, keepdims=True), -mx.inf), ending
            )
            time_needed = times.logsumexp(axis=-1, keepdims=True) > likeliest
            text_allowed, ending_allowed = text_allowed & ~time_needed, yes & ~time_needed

        ending = mx.where(ending_allowed, ending, -mx.inf)
        offsets = mx.array([0, end, first_time])
        scores, ids = [], []
        noise = self._noise(logits.shape[1])
        for part, begin in ((text, 0), (ending, end), (times, first_time)):
            drawn = (
                part
                if noise is None
                else (part / self.temperature + noise[None, begin : begin + part.shape[1]])
            )
            ids.append(drawn.argmax(axis=-1))
            scores.append(drawn.max(axis=-1))
        scores[0] = mx.where(text_allowed[:, 0], scores[0], -mx.inf)
        part_of = mx.stack(scores, axis=1).argmax(axis=1)
        chosen = mx.take_along_axis(mx.stack(ids, axis=1), part_of[:, None], axis=1)[:, 0]
        tokens = (chosen + offsets[part_of]).astype(mx.int32)

        mass = mx.stack(
            [
                mx.where(text_allowed[:, 0], text.logsumexp(axis=-1), -mx.inf),
                ending[:, 0],
                times.logsumexp(axis=-1),
            ],
            axis=1,
        ).logsumexp(axis=1)
        log_probs = mx.take_along_axis(logits, tokens[:, None], axis=1)[:, 0] - mass
        self.past = _Past.after(past, tokens, first_time)
        return _Step(tokens, log_probs)

    def _noise(self, n_vocab: int) -> mx.array | None:
        """Gumbel noise: the largest of logits plus noise is a sample of the softmax."""
        if self.keys is None:
            return None
        return mx.random.gumbel((n_vocab,), key=self.keys[self.n_steps])
