# pyright: basic
"""The forward passes of a Whisper model on MLX, for a batch that shrinks while it decodes.

The weights and layers are those of mlx-whisper; the passes are written again because its own scale
and transpose the keys of all 1500 audio positions at every step, compute the vocabulary for every
token of a prompt, give the attention of all heads or of none, and cannot drop a row from the batch.

On a processor the matrix products are numpy's. Those of MLX 0.32's Linux wheel are the reference
BLAS's: a layer of Whisper's encoder takes them 12 times as long, and 28 times as mlx-whisper has
its weights.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import mlx.core as mx
import numpy as np
import numpy.typing as npt
from mlx import nn
from mlx.utils import tree_map_with_path
from mlx_whisper.whisper import Whisper
from threadpoolctl import ThreadpoolController

CACHE_STEP = 64  # tokens by which the cache of the decoder grows


@dataclass(slots=True)
class LayerCache:
    """Keys and values of one decoder layer, each (rows, heads, positions, head size)."""

    audio_keys: mx.array
    audio_values: mx.array
    aligned_keys: mx.array | None
    """The audio's keys of the layer's alignment heads; None where it has none."""
    keys: mx.array | None = None
    values: mx.array | None = None


class Network:
    """The encoder and the decoder of a model, without any state of a decoding."""

    def __init__(self, model: Whisper, cpu_threads: int | None) -> None:
        """`cpu_threads` are those of numpy's products; None where MLX's own are fast: on a GPU."""
        self.model = model
        self.dims = model.dims
        self.cpu_threads = cpu_threads
        # numpy has no fast product of halves
        own = model.decoder.positional_embedding.dtype
        self.dtype = own if cpu_threads is None else mx.float32
        heads: Any = model.alignment_heads.tolist()
        self.aligned_heads = [
            [head for layer, head in heads if layer == index]
            for index in range(model.dims.n_text_layer)
        ]
        if cpu_threads is not None:
            _multiply_with_numpy(model)
            self._blas = ThreadpoolController()

    def encode(self, mels: Sequence[mx.array]) -> mx.array:
        """The audio features (rows, 1500, n_audio_state) of mels (3000, n_mels), or of fewer."""
        if self.cpu_threads is None:
            return self._encode(mx.stack(list(mels)))
        # row by row: a batch is not faster, and the attention of one row takes memory enough
        with self._blas.limit(limits=self.cpu_threads, user_api="blas"):
            rows = [self._encode(mel[None]) for mel in mels]
            mx.eval(*rows)
        return mx.concatenate(rows)

    @contextlib.contextmanager
    def decoding(self) -> Iterator[None]:
        """The block's products take one thread of a processor.

        They are small, and more threads wait for each other longer than they work: on a busy
        machine a step took ten times the processor's time on two.
        """
        if self.cpu_threads is None:
            yield
            return
        with self._blas.limit(limits=1, user_api="blas"):
            yield

    def _encode(self, mel: mx.array) -> mx.array:
        encoder = self.model.encoder
        x = nn.gelu(encoder.conv1(mel.astype(self.dtype)))
        x = nn.gelu(encoder.conv2(x))
        places = encoder._positional_embedding.astype(self.dtype)  # noqa: SLF001 - the library keeps it out of its weights
        x = x + places[: x.shape[1]]
        for block in encoder.blocks:
            h = block.attn_ln(x)
            attention: Any = block.attn
            q, k, v = (
                _split_heads(project(h), attention.n_head)
                for project in (attention.query, attention.key, attention.value)
            )
            x = x + attention.out(_merge_heads(self._attend(q, k, v)))
            x = x + block.mlp2(nn.gelu(block.mlp1(block.mlp_ln(x))))
        return encoder.ln_post(x)

    def caches(self, features: mx.array) -> list[LayerCache]:
        """The empty caches of the decoder's layers, with the audio's keys and values."""
        layers: list[LayerCache] = []
        for block, heads in zip(self.model.decoder.blocks, self.aligned_heads, strict=True):
            attention: Any = block.cross_attn
            keys = mx.contiguous(_split_heads(attention.key(features), attention.n_head))
            values = mx.contiguous(_split_heads(attention.value(features), attention.n_head))
            aligned = mx.take(keys, mx.array(heads), axis=1) if heads else None
            layers.append(LayerCache(keys, values, aligned))
        return layers

    def decode(
        self, tokens: mx.array, offset: int, caches: Sequence[LayerCache]
    ) -> tuple[mx.array, mx.array]:
        """Hidden states (rows, n, n_text_state) of tokens (rows, n) at positions from `offset`.

        And how the alignment heads attend to the audio, before the softmax: (rows, n, alignment
        heads, 1500). The caches take in the tokens' keys and values.
        """
        decoder = self.model.decoder
        n = tokens.shape[1]
        x = decoder.token_embedding(tokens) + decoder.positional_embedding[offset : offset + n]
        x = x.astype(self.dtype)
        mask = decoder._mask[:n, :n].astype(self.dtype) if n > 1 else None  # noqa: SLF001 - likewise no weight
        attended: list[mx.array] = []
        for block, heads, cache in zip(decoder.blocks, self.aligned_heads, caches, strict=True):
            h = block.attn_ln(x)
            attention: Any = block.attn
            q, k, v = (
                _split_heads(project(h), attention.n_head)
                for project in (attention.query, attention.key, attention.value)
            )
            keys, values = _grown(cache, offset, k, v)
            x = x + attention.out(_merge_heads(self._attend(q, keys, values, mask=mask)))
            attention, norm = cast("Any", block.cross_attn), cast("Any", block.cross_attn_ln)
            q = _split_heads(attention.query(norm(x)), attention.n_head)
            if cache.aligned_keys is not None:
                chosen = mx.take(q, mx.array(heads), axis=1) / math.sqrt(q.shape[-1])
                attended.append(self._product(chosen, cache.aligned_keys.swapaxes(-1, -2)))
            weighed = self._attend(q, cache.audio_keys, cache.audio_values)
            x = x + attention.out(_merge_heads(weighed))
            x = x + block.mlp2(nn.gelu(block.mlp1(block.mlp_ln(x))))
        return decoder.ln(x), mx.concatenate(attended, axis=1).swapaxes(1, 2)

    def logits(self, hidden: mx.array) -> mx.array:
        """Logits (rows, n_vocab) in float32 of hidden states (rows, n_text_state)."""
        embedding: Any = self.model.decoder.token_embedding
        if self.cpu_threads is not None:
            return mx.array(_floats(hidden) @ _matrix(embedding).T)
        return embedding.as_linear(hidden).astype(mx.float32)

    def _attend(
        self, q: mx.array, k: mx.array, v: mx.array, mask: mx.array | None = None
    ) -> mx.array:
        scale = 1.0 / math.sqrt(q.shape[-1])
        if self.cpu_threads is None:
            return mx.fast.scaled_dot_product_attention(q, k, v, scale=scale, mask=mask)
        scores = _floats(q * scale) @ _floats(k).swapaxes(-1, -2)
        if mask is not None:
            scores += _floats(mask)
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        return mx.array(scores @ _floats(v))

    def _product(self, a: mx.array, b: mx.array) -> mx.array:
        return a @ b if self.cpu_threads is None else mx.array(_floats(a) @ _floats(b))


def keep_rows(caches: Sequence[LayerCache], rows: Sequence[int]) -> None:
    """Drops all other rows from the caches; one layer at a time, so that few copies coexist."""
    index = mx.array(list(rows))
    for cache in caches:
        cache.audio_keys = mx.take(cache.audio_keys, index, axis=0)
        cache.audio_values = mx.take(cache.audio_values, index, axis=0)
        if cache.aligned_keys is not None:
            cache.aligned_keys = mx.take(cache.aligned_keys, index, axis=0)
        if cache.keys is not None and cache.values is not None:
            cache.keys = mx.take(cache.keys, index, axis=0)
            cache.values = mx.take(cache.values, index, axis=0)
        mx.eval(cache.audio_keys, cache.audio_values, cache.aligned_keys, cache.keys, cache.values)


def _grown(cache: LayerCache, offset: int, k: mx.array, v: mx.array) -> tuple[mx.array, mx.array]:
    """All keys and values up to and with the new ones, which begin at position `offset`."""
    end = offset + k.shape[2]
    if cache.keys is None or cache.values is None or end > cache.keys.shape[2]:
        room = -(-end // CACHE_STEP) * CACHE_STEP - offset
        empty = mx.zeros((*k.shape[:2], room, k.shape[3]), dtype=k.dtype)
        if cache.keys is None or cache.values is None:
            # two arrays: one would be written by both assignments below
            cache.keys, cache.values = empty, mx.zeros_like(empty)
        else:
            cache.keys = mx.concatenate([cache.keys[:, :, :offset], empty], axis=2)
            cache.values = mx.concatenate([cache.values[:, :, :offset], empty], axis=2)
    cache.keys[:, :, offset:end] = k
    cache.values[:, :, offset:end] = v
    return cache.keys[:, :, :end], cache.values[:, :, :end]


def _split_heads(x: mx.array, n_head: int) -> mx.array:
    rows, positions, _ = x.shape
    return x.reshape(rows, positions, n_head, -1).transpose(0, 2, 1, 3)


def _merge_heads(x: mx.array) -> mx.array:
    rows, n_head, positions, size = x.shape
    return x.transpose(0, 2, 1, 3).reshape(rows, positions, n_head * size)


# --- products on a processor


class _Linear(nn.Module):
    """A linear layer, quantized or not, whose product is numpy's."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def __call__(self, x: mx.array) -> mx.array:
        matrix = _matrix(self.layer)
        # one product for all rows: numpy would do one for each
        y = _floats(x).reshape(-1, x.shape[-1]) @ matrix.T
        if "bias" in self.layer:
            y += _floats(self.layer["bias"])
        return mx.array(y.reshape(*x.shape[:-1], -1))


class _Convolution(nn.Module):
    """A convolution of Whisper's encoder as a product: each output sees a few positions."""

    def __init__(self, layer: nn.Conv1d) -> None:
        super().__init__()
        self.layer = layer

    def __call__(self, x: mx.array) -> mx.array:
        n_out, width, _ = self.layer.weight.shape
        padded = np.pad(_floats(x), ((0, 0), (self.layer.padding,) * 2, (0, 0)))
        seen = np.lib.stride_tricks.sliding_window_view(padded, width, axis=1)
        seen = seen[:, :: self.layer.stride].swapaxes(-1, -2)  # (rows, positions, width, in)
        matrix = _floats(self.layer.weight).reshape(n_out, -1)
        y = seen.reshape(-1, matrix.shape[1]) @ matrix.T + _floats(self.layer["bias"])
        return mx.array(y.reshape(*seen.shape[:2], n_out))


def _multiply_with_numpy(model: Whisper) -> None:
    """Puts numpy's products into the layers of a model."""

    def fast(_: str, layer: nn.Module) -> nn.Module:
        if isinstance(layer, nn.Linear | nn.QuantizedLinear):
            return _Linear(layer)
        return _Convolution(layer) if isinstance(layer, nn.Conv1d) else layer

    leaves = tree_map_with_path(fast, model.leaf_modules(), is_leaf=nn.Module.is_module)
    model.update_modules(leaves)


def _matrix(layer: Any) -> npt.NDArray[np.float32]:
    """The weights of a layer, (out, in)."""
    if "scales" not in layer:
        return _floats(layer.weight)
    return _floats(
        mx.dequantize(layer.weight, layer.scales, layer.get("biases"), layer.group_size, layer.bits)
    )


def _floats(x: mx.array) -> npt.NDArray[np.float32]:
    """An array as numpy sees it, without a copy where it has 32 bits."""
    return np.asarray(x.astype(mx.float32))
