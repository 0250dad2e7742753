# pyright: basic
"""The forward passes of a Whisper model on MLX, for a batch that shrinks while it decodes.

The weights and layers are those of mlx-whisper; the passes are written again because its own scale
and transpose the keys of all 1500 audio positions at every step, compute the vocabulary for every
token of a prompt, and cannot drop a row from the batch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import mlx.core as mx
from mlx import nn
from mlx_whisper.whisper import Whisper

CACHE_STEP = 64  # tokens by which the cache of the decoder grows


@dataclass(slots=True)
class LayerCache:
    """Keys and values of one decoder layer, each (rows, heads, positions, head size)."""

    audio_keys: mx.array  # (rows, heads, head size, 1500) on the CPU
    audio_values: mx.array
    keys: mx.array | None = None
    values: mx.array | None = None


class Network:
    """The encoder and the decoder of a model, without any state of a decoding."""

    def __init__(self, model: Whisper) -> None:
        self.model = model
        self.dims = model.dims
        self.dtype = model.decoder.positional_embedding.dtype
        self._vocabulary: mx.array | None = None
        self.on_cpu = mx.default_device() == mx.cpu
        if self.on_cpu:
            self._lay_out_for_cpu()

    def _lay_out_for_cpu(self) -> None:
        """Stores each matrix transposed, so that the transpose a layer takes of it is contiguous.

        The BLAS of MLX 0.32's Linux wheel is the reference one, 1.3 to 1.6 times faster this way.
        """
        for module in self.model.modules():
            if type(module) is nn.Linear:
                module.weight = mx.contiguous(module.weight.T).T
                mx.eval(module.weight)
        # looking up a token in a transposed matrix would copy all of it: two copies instead
        embedding = self.model.decoder.token_embedding
        if type(embedding) is nn.Embedding:
            self._vocabulary = mx.contiguous(embedding.weight.T)
            mx.eval(self._vocabulary)

    def encode(self, mel: mx.array) -> mx.array:
        """The audio features (rows, 1500, n_audio_state) of mels (rows, 3000, n_mels)."""
        encoder = self.model.encoder
        x = nn.gelu(encoder.conv1(mel.astype(self.dtype)))
        x = nn.gelu(encoder.conv2(x))
        x = x + encoder._positional_embedding  # noqa: SLF001 - the library keeps it out of its weights
        for block in encoder.blocks:
            h = block.attn_ln(x)
            attention: Any = block.attn
            q, k, v = (
                _split_heads(project(h), attention.n_head)
                for project in (attention.query, attention.key, attention.value)
            )
            x = x + attention.out(_merge_heads(self._attend(q, self._laid_out(k), v)))
            x = x + block.mlp2(nn.gelu(block.mlp1(block.mlp_ln(x))))
        return encoder.ln_post(x)

    def caches(self, features: mx.array) -> list[LayerCache]:
        """The empty caches of the decoder's layers, with the audio's keys and values."""
        layers: list[LayerCache] = []
        for block in self.model.decoder.blocks:
            attention: Any = block.cross_attn
            keys = _split_heads(attention.key(features), attention.n_head)
            values = _split_heads(attention.value(features), attention.n_head)
            layers.append(LayerCache(self._laid_out(keys), values))
        return layers

    def decode(self, tokens: mx.array, offset: int, caches: Sequence[LayerCache]) -> mx.array:
        """Hidden states (rows, n, n_text_state) of tokens (rows, n) at positions from `offset`.

        The caches take in the tokens' keys and values.
        """
        decoder = self.model.decoder
        n = tokens.shape[1]
        x = decoder.token_embedding(tokens) + decoder.positional_embedding[offset : offset + n]
        mask = decoder._mask[:n, :n] if n > 1 else None  # noqa: SLF001 - likewise no weight
        for block, cache in zip(decoder.blocks, caches, strict=True):
            h = block.attn_ln(x)
            attention: Any = block.attn
            q, k, v = (
                _split_heads(project(h), attention.n_head)
                for project in (attention.query, attention.key, attention.value)
            )
            keys, values = _grown(cache, offset, k, v)
            x = x + attention.out(
                _merge_heads(self._attend(q, self._laid_out(keys), values, mask=mask))
            )
            attention, norm = cast("Any", block.cross_attn), cast("Any", block.cross_attn_ln)
            q = _split_heads(attention.query(norm(x)), attention.n_head)
            attended = self._attend(q, cache.audio_keys, cache.audio_values)
            x = x + attention.out(_merge_heads(attended))
            x = x + block.mlp2(nn.gelu(block.mlp1(block.mlp_ln(x))))
        return decoder.ln(x)

    def logits(self, hidden: mx.array) -> mx.array:
        """Logits (rows, n_vocab) in float32 of hidden states (rows, n_text_state)."""
        if self._vocabulary is not None:
            return (hidden @ self._vocabulary).astype(mx.float32)
        return self.model.decoder.token_embedding.as_linear(hidden).astype(mx.float32)

    def _laid_out(self, keys: mx.array) -> mx.array:
        """Keys as `_attend` takes them: (..., head size, positions) on the CPU."""
        return mx.contiguous(keys.swapaxes(-1, -2)) if self.on_cpu else keys

    def _attend(
        self, q: mx.array, k: mx.array, v: mx.array, mask: mx.array | None = None
    ) -> mx.array:
        scale = 1.0 / math.sqrt(q.shape[-1])
        if not self.on_cpu:
            return mx.fast.scaled_dot_product_attention(q, k, v, scale=scale, mask=mask)
        scores = (q * scale) @ k
        if mask is not None:
            scores = scores + mask
        return mx.softmax(scores, axis=-1, precise=True) @ v


def keep_rows(caches: Sequence[LayerCache], rows: Sequence[int]) -> None:
    """Drops all other rows from the caches; one layer at a time, so that few copies coexist."""
    index = mx.array(list(rows))
    for cache in caches:
        cache.audio_keys = mx.take(cache.audio_keys, index, axis=0)
        cache.audio_values = mx.take(cache.audio_values, index, axis=0)
        if cache.keys is not None and cache.values is not None:
            cache.keys = mx.take(cache.keys, index, axis=0)
            cache.values = mx.take(cache.values, index, axis=0)
        mx.eval(cache.audio_keys, cache.audio_values, cache.keys, cache.values)


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
