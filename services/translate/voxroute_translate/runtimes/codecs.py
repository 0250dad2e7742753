# pyright: basic
"""Text to tokens and back, for each model format."""

import json
import threading
from collections.abc import Sequence
from typing import Any

import sentencepiece
import transformers

from voxroute_translate.engine import Codec, Encoded
from voxroute_translate.registry import ModelCard

MAX_INPUT_TOKENS = 512  # NLLB and M2M100 take 1024, but saw no single sentence beyond this

_TOKENIZERS = {
    "nllb": "NllbTokenizerFast",
    "m2m100": "M2M100Tokenizer",
    "marian": "MarianTokenizer",
}


def codec(card: ModelCard) -> Codec:
    """The codec of a model's format."""
    if card.format == "indictrans2":
        return IndicTrans2Codec(card)
    return TransformersCodec(card)


class TransformersCodec:
    """NLLB, M2M100 and Marian through the tokenizer in the model's directory.

    The tokenizers keep the source language as state; a lock makes one call of each use.
    """

    def __init__(self, card: ModelCard) -> None:
        config = json.loads((card.directory / "config.json").read_text("utf-8"))
        self._format = card.format
        self._lock = threading.Lock()
        # By its class: AutoTokenizer imports all that can generate, and scikit-learn, for seconds.
        # Local files only; and no class of these has code from a model's directory.
        self._tokenizer: Any = getattr(transformers, _TOKENIZERS[card.format]).from_pretrained(
            str(card.directory), local_files_only=True
        )
        positions = int(config.get("max_position_embeddings", MAX_INPUT_TOKENS))
        self.max_input_tokens = min(MAX_INPUT_TOKENS, positions)
        self.target_eos: str = self._tokenizer.eos_token

    def _ids(self, sentence: str, source: str, target: str) -> list[int]:
        if self._format == "marian":
            many = f">>{target}<<"
            if many in self._tokenizer.get_vocab():
                sentence = f"{many} {sentence}"
        else:
            self._tokenizer.src_lang = source
        # `verbose` would warn of texts that are too long: the caller sees to them
        return self._tokenizer(sentence, verbose=False)["input_ids"]

    def count(self, sentence: str, source: str, target: str) -> int:
        """Tokens of the sentence, language token and end mark included."""
        with self._lock:
            return len(self._ids(sentence, source, target))

    def encode(self, sentences: Sequence[str], source: str, target: str) -> Encoded:
        """The sentences as tokens."""
        with self._lock:
            ids = [self._ids(sentence, source, target) for sentence in sentences]
            return Encoded([self._tokenizer.convert_ids_to_tokens(each) for each in ids])

    def prefix(self, target: str) -> list[str]:
        """The target's language token; Marian has none."""
        if self._format == "marian":
            return []
        return [target if self._format == "nllb" else f"__{target}__"]

    def decode(self, tokens: Sequence[Sequence[str]], target: str, state: object) -> list[str]:
        """The text of each translation."""
        del target, state
        with self._lock:
            return [
                self._tokenizer.decode(
                    self._tokenizer.convert_tokens_to_ids(list(each)),
                    skip_special_tokens=True,
                    clean_up_tokenization_spaces=False,
                )
                for each in tokens
            ]

    def source_ids(self, tokens: Sequence[str]) -> list[int]:
        """Numbers of source tokens."""
        with self._lock:
            return self._tokenizer.convert_tokens_to_ids(list(tokens))

    target_ids = source_ids

    def target_tokens(self, ids: Sequence[int]) -> list[str]:
        """Target tokens of numbers."""
        with self._lock:
            return self._tokenizer.convert_ids_to_tokens(list(ids))


class IndicTrans2Codec:
    """IndicTrans2: two SentencePiece models, two dictionaries, and IndicTransToolkit's processor.

    The encoder reads the source's and the target's code before the text. All scripts of Brahmi's
    family are brought to Devanagari before, and back to their own after the model. The processor
    keeps placeholders of numbers and addresses from `preprocess_batch` for `postprocess_batch`,
    which blocks where there are none: one instance for each batch, never shared.
    """

    target_eos = "</s>"
    _UNKNOWN = "<unk>"

    def __init__(self, card: ModelCard) -> None:
        directory = card.directory
        config = json.loads((directory / "config.json").read_text("utf-8"))
        self.max_input_tokens = int(config.get("max_source_positions", 256))
        self._source = json.loads((directory / "dict.SRC.json").read_text("utf-8"))
        self._target = json.loads((directory / "dict.TGT.json").read_text("utf-8"))
        self._target_tokens = {number: token for token, number in self._target.items()}
        self._pieces = sentencepiece.SentencePieceProcessor(model_file=str(directory / "model.SRC"))
        self._special = {"<s>", "<pad>", "</s>", self._UNKNOWN}

    @staticmethod
    def _processor() -> Any:
        from IndicTransToolkit.processor import IndicProcessor  # noqa: PLC0415 - only IndicTrans2 needs it

        return IndicProcessor(inference=True)

    def _tokens(self, processed: str) -> list[str]:
        source, target, text = [*processed.split(" ", 2), ""][:3]
        pieces = self._pieces.encode(text, out_type=str)
        known = [piece if piece in self._source else self._UNKNOWN for piece in pieces]
        return [source, target, *known, "</s>"]

    def count(self, sentence: str, source: str, target: str) -> int:
        """Tokens of the sentence, language codes and end mark included."""
        return len(self.encode([sentence], source, target).tokens[0])

    def encode(self, sentences: Sequence[str], source: str, target: str) -> Encoded:
        """The sentences as tokens, and the processor that decoding needs."""
        processor = self._processor()
        processed = processor.preprocess_batch(list(sentences), src_lang=source, tgt_lang=target)
        return Encoded([self._tokens(each) for each in processed], processor)

    def prefix(self, target: str) -> list[str]:
        """Nothing: the encoder has read which language is wanted."""
        del target
        return []

    def decode(self, tokens: Sequence[Sequence[str]], target: str, state: object) -> list[str]:
        """The text of each translation in the target's own script."""
        texts = [
            "".join(token for token in each if token in self._target and token not in self._special)
            .replace("▁", " ")
            .strip()
            for each in tokens
        ]
        processor: Any = state
        return processor.postprocess_batch(texts, lang=target)

    def source_ids(self, tokens: Sequence[str]) -> list[int]:
        """Numbers of source tokens."""
        return [self._source.get(token, self._source[self._UNKNOWN]) for token in tokens]

    def target_ids(self, tokens: Sequence[str]) -> list[int]:
        """Numbers of target tokens."""
        return [self._target.get(token, self._target[self._UNKNOWN]) for token in tokens]

    def target_tokens(self, ids: Sequence[int]) -> list[str]:
        """Target tokens of numbers."""
        return [self._target_tokens.get(number, self._UNKNOWN) for number in ids]
