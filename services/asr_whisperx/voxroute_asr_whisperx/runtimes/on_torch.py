# pyright: basic
"""PyTorch: on a GPU, for weights in floating point.

CTranslate2 launches the kernels of each step, waits for them, and picks the tokens on a processor:
a batch alone leaves most of a GPU idle, and several side by side cost each other's time. Here a
step is one graph; see torch_decoder.
"""

import json
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from voxroute_asr_whisperx.models import is_multilingual, special_tokens
from voxroute_asr_whisperx.runtimes import torch_words
from voxroute_asr_whisperx.runtimes.runtime import MAX_POSITIONS, Alignment, Generation, Search
from voxroute_asr_whisperx.runtimes.torch_decoder import Decoder
from voxroute_asr_whisperx.runtimes.torch_graphs import Graphs
from voxroute_asr_whisperx.runtimes.torch_network import Network
from voxroute_asr_whisperx.runtimes.weights import read_variables

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
"""By the compute types that are run here."""
FRAMES = 3000  # of 10 ms, that the encoder hears
_LENGTH_STEP = 64  # tokens by which the graphs of alignments differ


@dataclass(frozen=True, slots=True)
class Encoded:
    """The audio of windows."""

    audio: Tensor
    """(rows, positions, width), more rows than windows."""
    n_windows: int

    def __len__(self) -> int:
        return self.n_windows


class TorchRuntime:
    """A Runtime of the model in the directory of a CTranslate2 model, on one device.

    One batch is decoded at a time, beside which another is encoded or aligned. `max_batch` is what
    was asked for, or less where half of the free memory has no room for it.
    """

    hears_short_contexts = False
    workers = 2

    def __init__(
        self, directory: Path, device: str, compute_type: str, *, max_batch: int, beam_size: int = 5
    ) -> None:
        """`beam_size` is what most calls will ask for.

        Raises ValueError, KeyError, OSError, RuntimeError.
        """
        self.compute_type = compute_type
        self._device = torch.device(device)
        config: dict[str, Any] = json.loads((directory / "config.json").read_text("utf-8"))
        special = special_tokens(directory, directory.name)
        self._start, self._end = special["<|startoftranscript|>"], special["<|endoftext|>"]
        self._no_times = special["<|notimestamps|>"]
        self._task = special.get("<|transcribe|>", self._end)
        self._no_speech = special.get("<|nospeech|>", special.get("<|nocaptions|>", self._end))
        self._blank: list[int] = config["suppress_ids_begin"]
        listed = set(config["lang_ids"])
        self._languages = {number: name for name, number in special.items() if number in listed}
        self.is_multilingual = is_multilingual(special)
        self._lock = threading.Lock()
        with torch.inference_mode():
            variables = read_variables(directory / "model.bin")
            aligned = config["alignment_heads"]
            self._network = Network(variables, aligned, self._device, DTYPES[compute_type])
            self.n_mels = self._network.n_mels
            self.weight_bytes = self._network.n_bytes
            self.max_batch = min(max_batch, self._room(beam_size))
            self._graphs = Graphs(self._device)
            self._decoder = Decoder(
                self._network, self._graphs, self.max_batch, beam_size, self._end
            )
            if self._device.type == "cuda":
                self._prepare(Search(beam_size))

    @torch.inference_mode()
    def encode(self, features: npt.NDArray[np.float32]) -> Encoded:
        """See Runtime."""
        n = len(features)
        given = self._rows(torch.from_numpy(features).to(self._device))
        key = ("encode", *given.shape)
        (audio,) = self._graphs.run(key, lambda x: (self._network.encode(x),), given)
        return Encoded(audio, n)

    @torch.inference_mode()
    def generate(self, encoded: Encoded, prompt: Sequence[int], search: Search) -> list[Generation]:
        """See Runtime."""
        with self._lock:
            texts, logits = self._decoder.decode(
                encoded.audio,
                len(encoded),
                prompt,
                search,
                n_tokens=min(search.max_tokens, MAX_POSITIONS - len(prompt) + 1),
                suppressed_first=self._blank,
                speech=list(prompt).index(self._start),
            )
        silences = logits.softmax(-1)[: len(encoded), self._no_speech].tolist()
        return [
            Generation(tokens, mean_log_prob, silent)
            for (tokens, mean_log_prob), silent in zip(texts, silences, strict=True)
        ]

    @torch.inference_mode()
    def align(
        self,
        encoded: Encoded,
        start: Sequence[int],
        texts: Sequence[Sequence[int]],
        frames: Sequence[int],
    ) -> list[Alignment]:
        """See Runtime."""
        rows = [[*start, self._no_times, *text, self._end] for text in texts]
        longest = -(-max(map(len, rows)) // _LENGTH_STEP) * _LENGTH_STEP
        longest = min(longest, MAX_POSITIONS)
        filled = torch.tensor([row + [self._end] * (longest - len(row)) for row in rows])
        lengths = torch.tensor(
            [[len(row), max(1, n // 2)] for row, n in zip(rows, frames, strict=True)]
        )
        tokens, lengths = (self._rows(one.to(self._device)) for one in (filled, lengths))
        begins, probable = self._graphs.run(
            ("align", *tokens.shape, len(start)),
            partial(self._aligned, len(start)),
            tokens,
            lengths.clamp(min=1),
            encoded.audio,
        )
        begins, probable = begins.tolist(), probable.tolist()
        return [
            Alignment(begins[row][: len(text) + 1], probable[row][: len(text)])
            for row, text in enumerate(texts)
        ]

    @torch.inference_mode()
    def detect_language(self, encoded: Encoded) -> list[dict[str, float]]:
        """See Runtime."""
        tokens = torch.full((len(encoded.audio), 1), self._start, device=self._device)
        numbers = torch.tensor(list(self._languages), device=self._device)

        def heard(tokens: Tensor, numbers: Tensor, audio: Tensor) -> tuple[Tensor, ...]:
            hidden, _ = self._network.read(tokens, audio)
            return (self._network.logits(hidden[:, 0])[:, numbers].softmax(-1),)

        (found,) = self._graphs.run(
            ("language", len(tokens)), heard, tokens, numbers, encoded.audio
        )
        names = self._languages.values()
        return [dict(zip(names, row, strict=True)) for row in found[: len(encoded)].tolist()]

    def close(self) -> None:
        """See Runtime."""
        del self._network, self._graphs, self._decoder

    def _room(self, beam_size: int) -> int:
        """How many windows half of the free memory has room for.

        The other half is for the passes of the encoder and the alignment, and for other models.
        """
        if self._device.type != "cuda":
            return sys.maxsize
        free, _ = torch.cuda.mem_get_info(self._device)
        return max(1, free // 2 // Decoder.window_bytes(self._network, beam_size))

    @torch.inference_mode()
    def _prepare(self, search: Search) -> None:
        """Makes the graphs that most batches need, which takes seconds: no call should.

        cuDNN's attention would be a fifth faster in the steps, and takes as long again to prepare.
        """
        torch.backends.cuda.enable_cudnn_sdp(False)
        start = [self._start]
        if self.is_multilingual:
            start += [next(iter(self._languages)), self._task]
        rows = 0
        while rows < self.max_batch:
            rows = self._decoder.rows(rows + 1)
            silence = np.zeros((rows, self.n_mels, FRAMES), np.float32)
            encoded = self.encode(silence)
            self.generate(encoded, [*start, self._no_times], replace(search, max_tokens=1))
            self._decoder.prepare(search, rows)
            for n_tokens in (1, _LENGTH_STEP):
                self.align(encoded, start, [[0] * n_tokens] * rows, [FRAMES] * rows)

    def _rows(self, x: Tensor) -> Tensor:
        """With rows of zeros up to as many as there are graphs for."""
        missing = self._decoder.rows(len(x)) - len(x)
        return torch.cat([x, x.new_zeros(missing, *x.shape[1:])]) if missing else x

    def _aligned(
        self, n_start: int, tokens: Tensor, lengths: Tensor, audio: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Where the tokens behind the start begin, and their probabilities.

        `lengths` (rows, 2) are the tokens and the positions of audio that count.
        """
        n_tokens, n_audible = lengths.unbind(1)
        n_audible = n_audible.clamp(max=audio.shape[1])
        hidden, attention = self._network.read(tokens, audio, n_audible=n_audible)
        begins = torch_words.onsets(attention, n_start, n_tokens, n_audible)
        probable: list[Tensor] = []
        # of what follows, by what is before it; the logits of all windows would be a gigabyte
        for states, following in zip(hidden[:, n_start:-1], tokens[:, n_start + 1 :], strict=True):
            logits = self._network.logits(states)[:, : self._end]
            at = logits.gather(1, following.clamp(max=self._end - 1)[:, None])[:, 0]
            probable.append((at - logits.logsumexp(1)).exp())
        return begins, torch.stack(probable)
