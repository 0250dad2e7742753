# pyright: basic
"""Translation models in Hugging Face format to CTranslate2's; imports torch and transformers."""

import math
from pathlib import Path
from typing import Any

import ctranslate2.converters
import transformers
from ctranslate2.converters.transformers import _SUPPORTED_ACTIVATIONS, BartLoader
from ctranslate2.specs import transformer_spec

from voxroute_translate.registry import ModelCard
from voxroute_translate.runtimes import indictrans2_weights


def convert(card: ModelCard, directory: Path) -> None:
    """Writes the model in CTranslate2's format, weights as they are, into an empty directory."""
    if card.format == "indictrans2":
        _indictrans2_spec(card.directory).save(str(directory))
    else:
        converter = _Converter(str(card.directory))
        converter.convert(str(directory), force=True)


class _Converter(ctranslate2.converters.TransformersConverter):
    """CTranslate2's converter for transformers 4.53.

    CTranslate2 4.8 names the numeric type `dtype`, as transformers does from 4.56 on.
    """

    def load_model(self, model_class, model_name_or_path, **kwargs) -> Any:  # noqa: ANN001, ANN003 - the library's own types
        kwargs["torch_dtype"] = kwargs.pop("dtype", None)
        model = super().load_model(model_class, model_name_or_path, **kwargs)
        self._rows = model.config.vocab_size
        return model

    def load_tokenizer(self, tokenizer_class, model_name_or_path, **kwargs) -> Any:  # noqa: ANN001, ANN003 - the library's own types
        tokenizer = super().load_tokenizer(tokenizer_class, model_name_or_path, **kwargs)
        if isinstance(tokenizer, transformers.M2M100Tokenizer):
            # It leaves its language tokens out of the vocabulary unless a file lists them, and
            # claims the 8 unused rows of embeddings that the published models have.
            vocabulary = {**tokenizer.get_vocab(), **tokenizer.lang_token_to_id}
            tokenizer.get_vocab = lambda: vocabulary
            tokenizer.num_madeup_words = max(0, self._rows - len(vocabulary))
        return tokenizer


class _IndicTrans2Loader(BartLoader):
    """Bart's loader with positions that are computed and not stored."""

    def __init__(self, config: Any, embed_scale: float) -> None:
        self._config = config
        self._embed_scale = embed_scale

    def set_common_layers(self, spec, module) -> None:  # noqa: ANN001 - the library's own types
        module.embed_scale = self._embed_scale
        positions = max(self._config.max_source_positions, self._config.max_target_positions)
        width = module.embed_tokens.weight.shape[1]
        table = indictrans2_weights.sinusoidal_positions(positions, width)
        module.embed_positions = type("Positions", (), {"weight": table})
        super().set_common_layers(spec, module)


def _indictrans2_spec(directory: Path) -> transformer_spec.TransformerSpec:
    config, state = indictrans2_weights.read(directory)
    modules = indictrans2_weights.tree(state)
    spec = transformer_spec.TransformerSpec.from_config(
        (config.encoder_layers, config.decoder_layers),
        config.encoder_attention_heads,
        pre_norm=True,
        activation=_SUPPORTED_ACTIVATIONS[config.activation_function],
        layernorm_embedding=config.layernorm_embedding,
    )
    scale = math.sqrt(config.encoder_embed_dim) if config.scale_embedding else 1.0
    loader = _IndicTrans2Loader(config, scale)
    loader.set_encoder(spec.encoder, modules.model.encoder)
    loader.set_decoder(spec.decoder, modules.model.decoder)
    loader.set_linear(spec.decoder.projection, modules.lm_head)
    spec.register_source_vocabulary(
        indictrans2_weights.vocabulary(directory, "SRC", config.encoder_vocab_size)
    )
    spec.register_target_vocabulary(
        indictrans2_weights.vocabulary(directory, "TGT", config.decoder_vocab_size)
    )
    tokens: Any = spec.config
    tokens.bos_token, tokens.eos_token, tokens.unk_token = "<s>", "</s>", "<unk>"
    tokens.decoder_start_token = tokens.eos_token
    spec.validate()
    spec.optimize()
    return spec
