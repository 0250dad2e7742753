"""A small Whisper, with the parameter names of `transformers.WhisperForConditionalGeneration`.

While it trains, the vocabulary holds only the tokens that the grammar uses, plus one row that stands for all the
others: its logit carries log(number of the others), so probabilities stay right when the row is copied back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class Shape:
    """Sizes of the model."""

    width: int = 256
    heads: int = 4
    encoder_layers: int = 4
    decoder_layers: int = 3
    source_positions: int = 1500
    target_positions: int = 448


def sinusoids(length: int, width: int) -> torch.Tensor:
    """Whisper's fixed encoder positions [length, width] (openai/whisper model.py)."""
    step = math.log(10_000) / (width // 2 - 1)
    scaled = torch.arange(length)[:, None] * torch.exp(-step * torch.arange(width // 2))[None]
    return torch.cat([scaled.sin(), scaled.cos()], dim=1)


class Attention(nn.Module):
    """Multi-head attention; the key projection has no bias."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor, source: torch.Tensor, causal: bool = False) -> torch.Tensor:
        def split(y: torch.Tensor) -> torch.Tensor:
            return y.view(y.shape[0], y.shape[1], self.heads, -1).transpose(1, 2)

        q, k, v = split(self.q_proj(x)), split(self.k_proj(source)), split(self.v_proj(source))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return self.out_proj(y.transpose(1, 2).reshape(x.shape))


class Layer(nn.Module):
    """A pre-norm transformer layer, with attention to the encoder if `cross`."""

    def __init__(self, shape: Shape, cross: bool) -> None:
        super().__init__()
        self.self_attn = Attention(shape.width, shape.heads)
        self.self_attn_layer_norm = nn.LayerNorm(shape.width)
        if cross:
            self.encoder_attn = Attention(shape.width, shape.heads)
            self.encoder_attn_layer_norm = nn.LayerNorm(shape.width)
        self.fc1 = nn.Linear(shape.width, 4 * shape.width)
        self.fc2 = nn.Linear(4 * shape.width, shape.width)
        self.final_layer_norm = nn.LayerNorm(shape.width)

    def forward(
        self, x: torch.Tensor, encoded: torch.Tensor | None = None, dropout: float = 0.0
    ) -> torch.Tensor:
        y = self.self_attn_layer_norm(x)
        x = x + F.dropout(self.self_attn(y, y, causal=encoded is not None), dropout, self.training)
        if encoded is not None:
            x = x + F.dropout(
                self.encoder_attn(self.encoder_attn_layer_norm(x), encoded), dropout, self.training
            )
        y = self.fc2(F.gelu(self.fc1(self.final_layer_norm(x))))
        return x + F.dropout(y, dropout, self.training)


class Encoder(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(80, shape.width, 3, padding=1)
        self.conv2 = nn.Conv1d(shape.width, shape.width, 3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(shape.source_positions, shape.width)
        self.embed_positions.weight.data = sinusoids(shape.source_positions, shape.width)
        self.embed_positions.weight.requires_grad_(False)
        self.layers = nn.ModuleList(Layer(shape, False) for _ in range(shape.encoder_layers))
        self.layer_norm = nn.LayerNorm(shape.width)

    def forward(self, features: torch.Tensor, dropout: float = 0.0) -> torch.Tensor:
        x = F.gelu(self.conv2(F.gelu(self.conv1(features)))).transpose(1, 2)
        x = x + self.embed_positions.weight[: x.shape[1]]
        for layer in self.layers:
            x = layer(x, None, dropout)
        return self.layer_norm(x)


class Decoder(nn.Module):
    def __init__(self, shape: Shape, tokens: int) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(tokens, shape.width)
        nn.init.normal_(self.embed_tokens.weight, std=0.02)
        self.embed_positions = nn.Embedding(shape.target_positions, shape.width)
        nn.init.normal_(self.embed_positions.weight, std=0.02)
        self.layers = nn.ModuleList(Layer(shape, True) for _ in range(shape.decoder_layers))
        self.layer_norm = nn.LayerNorm(shape.width)

    def forward(
        self, tokens: torch.Tensor, encoded: torch.Tensor, dropout: float = 0.0
    ) -> torch.Tensor:
        x = self.embed_tokens(tokens) + self.embed_positions.weight[: tokens.shape[1]]
        for layer in self.layers:
            x = layer(x, encoded, dropout)
        return self.layer_norm(x)


class TinyWhisper(nn.Module):
    """Encoder, decoder and a CTC head over characters that is dropped at export."""

    def __init__(self, shape: Shape, tokens: int, characters: int, unused: int) -> None:
        super().__init__()
        self.model = nn.ModuleDict({"encoder": Encoder(shape), "decoder": Decoder(shape, tokens)})
        self.ctc = nn.Linear(shape.width, characters)
        self.unused_bias = math.log(max(unused, 1))

    def encode(self, features: torch.Tensor, dropout: float = 0.0) -> torch.Tensor:
        """Features [B, 80, frames] -> [B, frames / 2, width]."""
        return self.model["encoder"](features, dropout)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits over the compact vocabulary; the last entry is all unused tokens together."""
        logits = F.linear(hidden, self.model["decoder"].embed_tokens.weight).float()
        logits[..., -1] += self.unused_bias
        return logits

    def decode(
        self, tokens: torch.Tensor, encoded: torch.Tensor, dropout: float = 0.0
    ) -> torch.Tensor:
        """Hidden states [B, T, width] of `tokens` [B, T]."""
        return self.model["decoder"](tokens, encoded, dropout)
