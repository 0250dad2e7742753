# pyright: basic
"""Decodes a batch of windows without timestamps, each row until its own end.

mlx-whisper 0.4.3's decoding task takes a batch too, but
- its sampling is compiled with the random state frozen in, so that it draws the same sample again;
- a row that has ended costs as much as the others until the last one ends;
- each step builds masks over the vocabulary on the host;
- what the decoder attends to, which tells the time of each word, is thrown away.

Here a row that has ended leaves the batch, and the host reads the tokens of a step while the device
computes the next one. The result of a row does not depend on its companions: sampling takes its
noise from the number of the step alone.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_whisper.tokenizer import Tokenizer

from voxroute_asr_mlx.network import LayerCache, Network, keep_rows
from voxroute_serving.asr.whisper.decoding import Decoded


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
        return cls((*previous, *tokenizer.sot_sequence, tokenizer.no_timestamps), len(previous))


@dataclass(frozen=True, slots=True)
class AttendedText(Decoded):
    """What the model wrote for one row, with what tells the times of its words."""

    log_probs: tuple[float, ...]
    """Of the tokens."""
    attention: tuple[mx.array, ...]
    """How the alignment heads attend to the audio, each (n, heads, 1500), before the softmax.

    The first is of the tokens of the task; then comes one of each token, but for the last of a
    text that is cut off.
    """


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
        # the vocabulary is text, then the end of the text, then tokens that are not written here
        suppressed = np.zeros(tokenizer.eot + 1, np.float32)
        suppressed[list(tokenizer.non_speech_tokens)] = -np.inf
        first = suppressed.copy()
        first[[*tokenizer.encode(" "), tokenizer.eot]] = -np.inf  # no window is declared empty
        self.suppressed, self.suppressed_first = mx.array(suppressed), mx.array(first)
        mx.eval(self.suppressed, self.suppressed_first)

    def decode(
        self, features: mx.array, temperature: float, stop: Callable[[], bool]
    ) -> list[AttendedText]:
        """What each row of audio features (rows, 1500, n_audio_state) says.

        `stop` is asked before every step; once it is true the results are what was decoded so far.
        """
        with self.network.decoding():
            batch = _Batch(self, features, temperature)
            while batch.rows and not stop():
                batch.launch()
                batch.collect()
        return [row.result(self, temperature) for row in batch.all_rows]


@dataclass(slots=True)
class _Row:
    """What has been read of one row."""

    no_speech_prob: float = 0.0
    tokens: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    """Of the tokens, and of the end of the text."""
    attention: list[mx.array] = field(default_factory=list)

    def result(self, decoder: Decoder, temperature: float) -> AttendedText:
        text = decoder.tokenizer.decode(self.tokens).strip()
        return AttendedText(
            tokens=tuple(self.tokens),
            text=text,
            log_probs=tuple(self.log_probs[: len(self.tokens)]),
            # the end of the text counts as a token
            avg_log_prob=sum(self.log_probs) / (len(self.tokens) + 1),
            no_speech_prob=self.no_speech_prob,
            compression_ratio=compression_ratio(text),
            temperature=temperature,
            is_cut_off=len(self.tokens) >= decoder.max_tokens,
            attention=tuple(self.attention),
        )


@dataclass(slots=True)
class _Step:
    """The outcome of one step for the rows of that moment; the first axis is that of the rows."""

    tokens: mx.array
    log_probs: mx.array
    attention: mx.array
    """(rows, n, alignment heads, 1500)"""

    def keep(self, rows: mx.array) -> "_Step":
        return _Step(self.tokens[rows], self.log_probs[rows], self.attention[rows])


class _Batch:
    """Rows that are decoded in lockstep."""

    def __init__(self, decoder: Decoder, features: mx.array, temperature: float) -> None:
        self.decoder = decoder
        self.temperature = temperature
        self.all_rows = [_Row() for _ in range(features.shape[0])]
        self.rows = list(self.all_rows)  # those that have not ended
        self.n_steps = 0
        self.unread: _Step | None = None
        self.read_next: _Step | None = None
        self.caches: list[LayerCache] = decoder.network.caches(features)
        self.no_speech: mx.array | None = None
        # noise that depends on the step alone
        self.keys = mx.random.split(mx.random.key(0), decoder.max_tokens) if temperature else None

    def launch(self) -> None:
        """Starts the next step, if there is one."""
        self.read_next, self.unread = self.unread, None
        if self.n_steps >= self.decoder.max_tokens:
            return
        step = self._first() if self.read_next is None else self._next(self.read_next.tokens)
        mx.async_eval(step.tokens, step.log_probs, step.attention)
        self.unread = step
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
            row.log_probs.append(log_probs[index])
            row.attention.append(step.attention[index])
            if tokens[index] != end_of_text:
                row.tokens.append(tokens[index])
                stay.append(index)
        if self.unread is None:  # the longest text there is has been read
            stay = []
        if 0 < len(stay) < len(self.rows):
            keep_rows(self.caches, stay)
            self.unread = self.unread.keep(mx.array(stay)) if self.unread is not None else None
        self.rows = [self.rows[index] for index in stay]

    def _read_no_speech(self) -> None:
        if self.no_speech is not None:
            probabilities: Any = self.no_speech.tolist()
            for row, probability in zip(self.rows, probabilities, strict=True):
                row.no_speech_prob = probability
            self.no_speech = None

    def _first(self) -> _Step:
        network, prompt = self.decoder.network, self.decoder.prompt
        n_rows = len(self.rows)
        tokens = mx.broadcast_to(mx.array(prompt.tokens), (n_rows, len(prompt.tokens)))
        hidden, attention = network.decode(tokens, 0, self.caches)
        at_sot = network.logits(hidden[:, prompt.sot_index])
        self.no_speech = mx.softmax(at_sot, axis=-1)[:, self.decoder.tokenizer.no_speech]
        logits = network.logits(hidden[:, -1])
        return self._chosen(logits, self.decoder.suppressed_first, attention[:, prompt.sot_index :])

    def _next(self, tokens: mx.array) -> _Step:
        network = self.decoder.network
        offset = len(self.decoder.prompt.tokens) + self.n_steps - 1
        hidden, attention = network.decode(tokens[:, None], offset, self.caches)
        return self._chosen(network.logits(hidden[:, 0]), self.decoder.suppressed, attention)

    def _chosen(self, logits: mx.array, suppressed: mx.array, attention: mx.array) -> _Step:
        """The next token of each row and its log probability."""
        logits = logits[:, : suppressed.shape[0]] + suppressed
        drawn = logits
        if self.keys is not None:
            # the largest of logits plus Gumbel noise is a sample of the softmax
            noise = mx.random.gumbel(suppressed.shape, key=self.keys[self.n_steps])
            drawn = logits / self.temperature + noise
        tokens = drawn.argmax(axis=-1)
        chosen = mx.take_along_axis(logits, tokens[:, None], axis=-1)[:, 0]
        return _Step(tokens, chosen - logits.logsumexp(axis=-1), attention)
