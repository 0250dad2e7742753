# pyright: basic
"""The forward passes of a Whisper model in torch, without any state of a decoding.

Rows of a batch are windows. A step of the decoder takes one token for each beam of each window;
all beams of a window read the same keys and values of its audio, and of its text so far: which of
the window's slots holds a beam's token of a position is for a mask to say, so that beams that are
reordered move no memory.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - as torch's own documentation has it
from torch import Tensor

from voxroute_asr_whisperx.runtimes.weights import Array, floating, n_layers


@dataclass(frozen=True, slots=True)
class _Linear:
    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


@dataclass(frozen=True, slots=True)
class _Norm:
    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias)


@dataclass(frozen=True, slots=True)
class _Feedforward:
    norm: _Norm
    wide: _Linear
    narrow: _Linear

    def __call__(self, x: Tensor) -> Tensor:
        return x + self.narrow(F.gelu(self.wide(self.norm(x))))


@dataclass(frozen=True, slots=True)
class _SelfAttention:
    norm: _Norm
    projections: _Linear
    """Queries, keys and values."""
    out: _Linear


@dataclass(frozen=True, slots=True)
class _AudioAttention:
    norm: _Norm
    queries: _Linear
    memory: _Linear
    """Keys and values."""
    out: _Linear


@dataclass(frozen=True, slots=True)
class _EncoderLayer:
    own: _SelfAttention
    feedforward: _Feedforward


@dataclass(frozen=True, slots=True)
class _DecoderLayer:
    own: _SelfAttention
    audio: _AudioAttention
    feedforward: _Feedforward
    aligned: Tensor
    """The heads whose attention tells which word is heard where."""


@dataclass(frozen=True, slots=True)
class LayerCache:
    """Keys and values of one decoder layer for as many windows as there is room for."""

    audio_keys: Tensor
    """(windows, heads, positions of audio, head size); the values likewise."""
    audio_values: Tensor
    keys: Tensor
    """(windows, heads, positions of text, slots, head size); the values likewise."""
    values: Tensor

    def first(self, n: int) -> "LayerCache":
        """Of the first windows."""
        return LayerCache(*(part[:n] for part in self._parts()))

    def move(self, rows: Tensor, to: Tensor) -> None:
        """Moves windows into other rows."""
        for part in self._parts():
            part.index_copy_(0, to, part[rows])

    def take(self, rows: Tensor, audio_keys: Tensor, audio_values: Tensor) -> None:
        """Takes in the audio (n, heads, positions, head size) of windows in these rows (n,)."""
        self.audio_keys.index_copy_(0, rows, audio_keys)
        self.audio_values.index_copy_(0, rows, audio_values)

    def write(self, rows: Tensor, keys: Tensor, values: Tensor) -> None:
        """Takes in the first tokens (n, heads, tokens, head size), in the first slot."""
        n = keys.shape[2]
        self.keys[:, :, :n, 0].index_copy_(0, rows, keys)
        self.values[:, :, :n, 0].index_copy_(0, rows, values)

    def _parts(self) -> tuple[Tensor, ...]:
        return self.audio_keys, self.audio_values, self.keys, self.values


class Network:
    """The encoder and the decoder of a model on one device."""

    def __init__(
        self,
        variables: Mapping[str, Array],
        aligned: Sequence[Sequence[int]],
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        """`aligned` are pairs of a decoder layer and the head of it that tells words' times."""
        self.device, self.dtype = device, dtype

        self.n_bytes = 0
        """Of the weights."""

        def tensor(name: str) -> Tensor:
            found = torch.from_numpy(floating(variables, name).copy()).to(device, dtype)
            self.n_bytes += found.nbytes
            return found

        def linear(name: str) -> _Linear:
            bias = f"{name}/bias"
            return _Linear(tensor(f"{name}/weight"), tensor(bias) if bias in variables else None)

        def norm(name: str) -> _Norm:
            return _Norm(tensor(f"{name}/gamma"), tensor(f"{name}/beta"))

        def own(name: str) -> _SelfAttention:
            part = f"{name}/self_attention"
            return _SelfAttention(
                norm(f"{part}/layer_norm"), linear(f"{part}/linear_0"), linear(f"{part}/linear_1")
            )

        def feedforward(name: str) -> _Feedforward:
            part = f"{name}/ffn"
            return _Feedforward(
                norm(f"{part}/layer_norm"), linear(f"{part}/linear_0"), linear(f"{part}/linear_1")
            )

        self.n_heads = int(variables["decoder/num_heads"])
        self._convolutions = [
            (tensor(f"encoder/{name}/weight"), tensor(f"encoder/{name}/bias"))
            for name in ("conv1", "conv2")
        ]
        self._audio_places = tensor("encoder/position_encodings/encodings")
        self._encoder = [
            _EncoderLayer(own(name), feedforward(name))
            for name in (f"encoder/layer_{i}" for i in range(n_layers(variables, "encoder")))
        ]
        self._encoder_norm = norm("encoder/layer_norm")
        self._embedding = tensor("decoder/embeddings/weight")
        self._places = tensor("decoder/position_encodings/encodings")
        self._decoder: list[_DecoderLayer] = []
        for index in range(n_layers(variables, "decoder")):
            name = f"decoder/layer_{index}"
            part = f"{name}/attention"
            audio = _AudioAttention(
                norm(f"{part}/layer_norm"), *(linear(f"{part}/linear_{i}") for i in range(3))
            )
            heads = [head for layer, head in aligned if layer == index]
            aligned_heads = torch.tensor(heads, dtype=torch.int64, device=device)
            self._decoder.append(_DecoderLayer(own(name), audio, feedforward(name), aligned_heads))
        self._decoder_norm = norm("decoder/layer_norm")
        projection = "decoder/projection/weight"
        self._projection = tensor(projection) if projection in variables else self._embedding
        self.width = self._embedding.shape[1]
        self.n_vocabulary = len(self._projection)
        self.n_positions = len(self._audio_places)
        self.n_mels = self._convolutions[0][0].shape[1]
        self.n_layers = len(self._decoder)

    def encode(self, features: Tensor) -> Tensor:
        """The audio (windows, positions, width) of features (windows, mels, frames)."""
        x = features.to(self.device, self.dtype)
        for stride, (weight, bias) in enumerate(self._convolutions, start=1):
            x = F.gelu(F.conv1d(x, weight, bias, stride=stride, padding=1))
        x = x.transpose(1, 2)
        x = x + self._audio_places[: x.shape[1]]
        for layer in self._encoder:
            q, k, v = self._split(layer.own.projections(layer.own.norm(x)), 3)
            x = x + layer.own.out(_merged(F.scaled_dot_product_attention(q, k, v)))
            x = layer.feedforward(x)
        return self._encoder_norm(x)

    def read(
        self,
        tokens: Tensor,
        encoded: Tensor,
        kept: tuple[Sequence[LayerCache], Tensor] | None = None,
        n_audible: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The decoder over whole texts: hidden states (windows, tokens, width).

        `kept` are the caches of the layers, and rows (windows,) of them that take in the keys and
        values of the audio and of the tokens, in the first slot.
        And how the alignment heads attend to the audio: (windows, heads, tokens, positions), of
        each token all together 1; empty without `n_audible` (windows,), the positions that count.
        """
        n = tokens.shape[1]
        x = self._embedding[tokens] + self._places[:n]
        unheard = None
        if n_audible is not None:
            unheard = torch.arange(encoded.shape[1], device=self.device) >= n_audible[:, None]
        attended: list[Tensor] = []
        for index, layer in enumerate(self._decoder):
            q, k, v = self._split(layer.own.projections(layer.own.norm(x)), 3)
            found = F.scaled_dot_product_attention(q, k, v, is_causal=n > 1)
            x = x + layer.own.out(_merged(found))
            audio_k, audio_v = self._split(layer.audio.memory(encoded), 2)
            if kept is not None:
                caches, rows = kept
                caches[index].take(rows, audio_k, audio_v)
                caches[index].write(rows, k, v)
            (q,) = self._split(layer.audio.queries(layer.audio.norm(x)), 1)
            if unheard is not None and len(layer.aligned):
                chosen, keys = (
                    part.index_select(1, layer.aligned).float() for part in (q, audio_k)
                )
                raw = chosen @ keys.transpose(2, 3)
                raw = raw / math.sqrt(q.shape[-1])
                raw = raw.masked_fill(unheard[:, None, None], -torch.inf)
                attended.append(raw.softmax(-1))
            found = F.scaled_dot_product_attention(q, audio_k, audio_v)
            x = x + layer.audio.out(_merged(found))
            x = layer.feedforward(x)
        return self._decoder_norm(x), torch.cat(attended, 1) if attended else x[:, :0]

    def step(
        self, tokens: Tensor, position: Tensor, mask: Tensor, caches: Sequence[LayerCache]
    ) -> Tensor:
        """Hidden states (windows, beams, width) of the next token of each beam.

        `position` (windows,) is that of the tokens (windows, beams), which stand in it in the slot
        of their beam. `mask` (windows, 1, beams, positions * slots) is 0 where a beam's text is and
        -inf elsewhere; the caches are read as far as it goes.
        """
        x = self._embedding[tokens] + self._places[position][:, None]
        windows = torch.arange(len(tokens), device=self.device)
        for layer, cache in zip(self._decoder, caches, strict=True):
            q, k, v = self._split(layer.own.projections(layer.own.norm(x)), 3)
            cache.keys[windows, :, position] = k
            cache.values[windows, :, position] = v
            n_read = mask.shape[-1] // cache.keys.shape[3]
            keys, values = (
                part[:, :, :n_read].flatten(2, 3) for part in (cache.keys, cache.values)
            )
            scores = (q * (1 / math.sqrt(q.shape[-1]))) @ keys.transpose(2, 3) + mask
            found = scores.softmax(-1) @ values
            x = x + layer.own.out(_merged(found))
            (q,) = self._split(layer.audio.queries(layer.audio.norm(x)), 1)
            found = F.scaled_dot_product_attention(q, cache.audio_keys, cache.audio_values)
            x = x + layer.audio.out(_merged(found))
            x = layer.feedforward(x)
        return self._decoder_norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Of hidden states (..., width), in float32."""
        return F.linear(hidden, self._projection).float()

    def _split(self, x: Tensor, n_parts: int) -> Sequence[Tensor]:
        """(rows, n, parts * width) as so many (rows, heads, n, head size)."""
        rows, n, _ = x.shape
        return x.view(rows, n, n_parts, self.n_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)


def _merged(x: Tensor) -> Tensor:
    """(rows, heads, n, head size) as (rows, n, width)."""
    return x.transpose(1, 2).flatten(2)
