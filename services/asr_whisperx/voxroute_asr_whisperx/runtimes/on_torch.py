# pyright: basic
"""PyTorch: on a GPU, for weights in floating point.

CTranslate2 launches the kernels of each step, waits for them, and picks the tokens on a processor:
a batch alone leaves most of a GPU idle, and several side by side cost each other's time. Here a
step is one graph; see torch_decoder.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from voxroute_asr_whisperx.models import is_multilingual, special_tokens
from voxroute_asr_whisperx.runtimes import torch_words
from voxroute_asr_whisperx.runtimes.runtime import MAX_POSITIONS, Alignment, Generation, Search
from voxroute_asr_whisperx.runtimes.torch_decoder import (
    MOST_AT_ONCE,
    Decoder,
    Special,
    size_of,
    sizes,
)
from voxroute_asr_whisperx.runtimes.torch_features import LogMel
from voxroute_asr_whisperx.runtimes.torch_graphs import Graphs
from voxroute_asr_whisperx.runtimes.torch_network import Network
from voxroute_asr_whisperx.runtimes.weights import read_variables
from voxroute_serving.audio.samples import N_WINDOW_SAMPLES, Samples

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
"""By the compute types that are run here."""
ROWS = 64  # windows that are decoded at once; with 32 a GPU loses a fourth
_FRAMES = 3000  # of 10 ms, in a window
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

    Of several batches the windows are decoded together; see Decoder. Beside that others are encoded
    and aligned.
    """

    hears_short_contexts = False

    def __init__(
        self,
        directory: Path,
        device: str,
        compute_type: str,
        *,
        max_batch: int = 0,
        beam_size: int = 5,
    ) -> None:
        """`beam_size` is what most calls will ask for; `max_batch` 0 stands for MOST_AT_ONCE.

        A fourth of ROWS, or of fewer that half of the free memory has room for, is in a batch.
        Raises ValueError, KeyError, OSError, RuntimeError.
        """
        self.compute_type = compute_type
        self._device = torch.device(device)
        config: dict[str, Any] = json.loads((directory / "config.json").read_text("utf-8"))
        special = special_tokens(directory, directory.name)
        self._start, self._end = special["<|startoftranscript|>"], special["<|endoftext|>"]
        self._no_times = special["<|notimestamps|>"]
        self._task = special.get("<|transcribe|>", self._end)
        listed = set(config["lang_ids"])
        self._languages = {number: name for name, number in special.items() if number in listed}
        self.is_multilingual = is_multilingual(special)
        silence = special.get("<|nospeech|>", special.get("<|nocaptions|>", self._end))
        with torch.inference_mode():
            variables = read_variables(directory / "model.bin")
            aligned = config["alignment_heads"]
            self._network = Network(variables, aligned, self._device, DTYPES[compute_type])
            self._log_mel = LogMel(self._network.n_mels, self._device)
            self.weight_bytes = self._network.n_bytes
            rows = min(max_batch * ROWS // MOST_AT_ONCE or ROWS, self._room(beam_size))
            self.max_batch = min(max_batch or MOST_AT_ONCE, rows)
            self.workers = max(2, rows * 3 // 2 // self.max_batch)
            self._graphs = Graphs(self._device)
            tokens = Special(self._end, silence, tuple(config["suppress_ids_begin"]))
            self._decoder = Decoder(self._network, self._graphs, rows, beam_size, tokens)
            if self._device.type == "cuda":
                self._prepare()

    @torch.inference_mode()
    def encode(self, windows: Sequence[Samples], n_samples: int = N_WINDOW_SAMPLES) -> Encoded:
        """See Runtime."""
        rows = size_of(len(windows), max(self.max_batch, len(windows)))
        is_cuda = self._device.type == "cuda"
        filled = torch.zeros(rows, n_samples, pin_memory=is_cuda)
        for row, window in zip(filled.numpy(), windows, strict=False):
            row[: len(window)] = window

        def encode(samples: Tensor) -> tuple[Tensor, ...]:
            return (self._network.encode(self._log_mel(samples)),)

        samples = filled.to(self._device, non_blocking=True)
        (audio,) = self._graphs.run(("encode", *samples.shape), encode, samples)
        return Encoded(audio, len(windows))

    @torch.inference_mode()
    def generate(self, encoded: Encoded, prompt: Sequence[int], search: Search) -> list[Generation]:
        """See Runtime."""
        speech = list(prompt).index(self._start)
        return self._decoder.decode(encoded.audio, len(encoded), prompt, search, speech)

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
        tokens, lengths = (
            self._rows(one.to(self._device), len(encoded.audio)) for one in (filled, lengths)
        )
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
        self._decoder.close()
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
    def _prepare(self) -> None:
        """Makes the graphs that most batches need, which takes seconds: no call should.

        cuDNN's attention would be a fifth faster in the steps, and takes as long again to prepare.
        """
        torch.backends.cuda.enable_cudnn_sdp(False)
        start = [self._start]
        if self.is_multilingual:
            start += [next(iter(self._languages)), self._task]
        self._decoder.prepare([*start, self._no_times])
        for n in sizes(self.max_batch):
            encoded = self.encode([np.zeros(N_WINDOW_SAMPLES, np.float32)] * n)
            for n_tokens in (1, _LENGTH_STEP):
                self.align(encoded, start, [[0] * n_tokens] * n, [_FRAMES] * n)

    def _rows(self, x: Tensor, n: int) -> Tensor:
        """With rows of zeros up to `n`."""
        missing = n - len(x)
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
