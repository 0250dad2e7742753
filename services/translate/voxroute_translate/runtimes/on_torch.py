# pyright: basic
"""transformers on torch: the runtime on mps, and an alternative on cuda and cpu."""

import gc
from collections.abc import Sequence
from typing import Any

import torch
import transformers
from torch import nn
from transformers.models.m2m_100 import modeling_m2m_100 as m2m100

from voxroute_serving.device.host import processor_name
from voxroute_serving.domain import DeviceInfo
from voxroute_serving.errors import ModelUnavailableError
from voxroute_translate.engine import FASTEST, Codec, Decoding, DeviceKind, output_limit
from voxroute_translate.registry import ModelCard
from voxroute_translate.runtimes import indictrans2_weights

_TYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class TorchRuntime:
    """A model in transformers."""

    engine = "torch"
    workers = 1

    def __init__(self, card: ModelCard, codec: Codec, kind: DeviceKind, compute_type: str) -> None:
        wanted = FASTEST["torch"][kind] if compute_type == "auto" else compute_type
        if wanted not in _TYPES:
            raise ModelUnavailableError(
                f"compute type {wanted} is not known to torch; use one of {', '.join(_TYPES)}"
            )
        if card.format == "indictrans2":
            model: Any = indictrans2_model(card)
        else:
            model = transformers.AutoModelForSeq2SeqLM.from_pretrained(
                str(card.directory), local_files_only=True, trust_remote_code=False
            )
        self._model: Any = model.to(device=kind, dtype=_TYPES[wanted]).eval()
        self.memory_bytes = sum(one.numel() * one.element_size() for one in model.parameters())
        self._codec = codec
        self._max_output_tokens = output_limit(card.directory)
        self._kind = kind
        memory: int | None = None
        if kind == "cuda":
            name = torch.cuda.get_device_name(0)
            memory = torch.cuda.get_device_properties(0).total_memory
        else:
            name = processor_name()
        self.device = DeviceInfo(
            kind=kind, name=name, compute_type=wanted, memory_total_bytes=memory
        )

    @torch.inference_mode()
    def generate(
        self, sources: Sequence[Sequence[str]], prefix: Sequence[str], decoding: Decoding
    ) -> list[tuple[list[str], bool]]:
        """For each source the best translation's tokens without prefix, and whether it ended."""
        config = self._model.config
        ids = [torch.tensor(self._codec.source_ids(tokens)) for tokens in sources]
        inputs = nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=config.pad_token_id)
        lengths = torch.tensor([len(each) for each in ids])
        mask = torch.arange(inputs.shape[1])[None, :] < lengths[:, None]
        forced = self._codec.target_ids(prefix)
        output = self._model.generate(
            input_ids=inputs.to(self._model.device),
            attention_mask=mask.long().to(self._model.device),
            forced_bos_token_id=forced[0] if forced else None,
            num_beams=decoding.beam_size,
            forced_eos_token_id=None,  # Marian's would hide that the limit was reached
            do_sample=False,
            early_stopping=decoding.beam_size > 1,
            max_length=None,
            max_new_tokens=self._max_output_tokens + len(forced),
            no_repeat_ngram_size=decoding.no_repeat_ngram_size,
            repetition_penalty=decoding.repetition_penalty,
            length_penalty=1.0,
        )
        outputs = []
        for row in output.tolist():
            written = row[1 + len(forced) :]  # without the start token
            ended = config.eos_token_id in written
            if ended:
                written = written[: written.index(config.eos_token_id)]
            outputs.append((self._codec.target_tokens(written), ended))
        return outputs

    def close(self) -> None:
        """Frees the memory of the device."""
        self._model = None
        gc.collect()
        if self._kind == "cuda":
            torch.cuda.empty_cache()
        elif self._kind == "mps":
            torch.mps.empty_cache()


def indictrans2_model(card: ModelCard) -> m2m100.M2M100ForConditionalGeneration:
    """IndicTrans2 as M2M100 with its own embeddings, output weights and embedding norms.

    The norm after the embeddings goes in front of the first layer, where M2M100 has nothing but
    dropout between.
    """
    config, state = indictrans2_weights.read(card.directory)
    model = m2m100.M2M100ForConditionalGeneration(
        transformers.M2M100Config(
            vocab_size=4,  # a placeholder: the embeddings are replaced below
            max_position_embeddings=max(config.max_source_positions, config.max_target_positions),
            d_model=config.encoder_embed_dim,
            encoder_layers=config.encoder_layers,
            encoder_attention_heads=config.encoder_attention_heads,
            encoder_ffn_dim=config.encoder_ffn_dim,
            decoder_layers=config.decoder_layers,
            decoder_attention_heads=config.decoder_attention_heads,
            decoder_ffn_dim=config.decoder_ffn_dim,
            activation_function=config.activation_function,
            scale_embedding=config.scale_embedding,
            encoder_layerdrop=0.0,
            decoder_layerdrop=0.0,
            pad_token_id=config.pad_token_id,
            bos_token_id=config.bos_token_id,
            eos_token_id=config.eos_token_id,
            decoder_start_token_id=config.decoder_start_token_id,
            tie_word_embeddings=False,
        )
    )
    width = config.encoder_embed_dim
    scale = width**0.5 if config.scale_embedding else 1.0
    for part, size in (
        (model.model.encoder, config.encoder_vocab_size),
        (model.model.decoder, config.decoder_vocab_size),
    ):
        part.embed_tokens = m2m100.M2M100ScaledWordEmbedding(
            size, width, config.pad_token_id, embed_scale=scale
        )
        if config.layernorm_embedding:
            part.layernorm_embedding = nn.LayerNorm(width)
            part.layers[0].register_forward_pre_hook(_normed(part.layernorm_embedding))
    model.lm_head = nn.Linear(width, config.decoder_vocab_size, bias=False)
    model.config.vocab_size = config.decoder_vocab_size
    missing, unexpected = model.load_state_dict(state, strict=False)
    missing = [name for name in missing if name != "model.shared.weight"]
    if missing or unexpected:
        raise ModelUnavailableError(
            f"{card.name} is no IndicTrans2 checkpoint as known here: missing"
            f" {missing[:3]}, unexpected {unexpected[:3]}"
        )
    return model


def _normed(norm: nn.Module) -> Any:
    def before_layer(_module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        return (norm(arguments[0]), *arguments[1:])

    return before_layer
