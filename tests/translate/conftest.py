# ruff: noqa: PLC0415 - ML libraries are imported by the fixtures that need them
"""Tiny checkpoints in the file formats of the real ones, with random weights."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece

ENGLISH = [
    "Where are you going?", "I am going home now.", "The water is cold today.", "Open the door!",
    "My brother has a new book.", "We will meet again tomorrow.", "Do not forget the money.",
    "She lives in the old house near the river.", "Why did you not tell me the truth?",
    "He is waiting for the train.", "What is your name?", "It is raining again.",
]  # fmt: skip
HINDI = [
    "तुम कहाँ जा रहे हो?", "मैं अब घर जा रहा हूँ।", "आज पानी ठंडा है।", "दरवाज़ा खोलो!",
    "मेरे भाई के पास एक नई किताब है।", "हम कल फिर मिलेंगे।", "पैसे मत भूलना।",
    "वह नदी के पास पुराने घर में रहती है।", "तुमने मुझे सच क्यों नहीं बताया?",
    "वह ट्रेन का इंतज़ार कर रहा है।", "तुम्हारा नाम क्या है?", "फिर से बारिश हो रही है।",
]  # fmt: skip


def train_pieces(
    texts: list[str], prefix: Path, size: int, **options: Any
) -> sentencepiece.SentencePieceProcessor:
    """A SentencePiece model of the texts, in `prefix`.model."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts * 20), model_prefix=str(prefix), vocab_size=size,
        hard_vocab_limit=False, minloglevel=2, num_threads=1, **options,
    )  # fmt: skip
    return sentencepiece.SentencePieceProcessor(model_file=f"{prefix}.model")


def build_indictrans2(  # noqa: C901 - a list of tensors
    directory: Path, *, tied: bool = False, layer_norm: bool = True
) -> Path:
    """A random IndicTrans2 checkpoint, English to Indic: the hub's file names and tensor names."""
    import torch
    from safetensors.torch import save_file

    directory.mkdir(parents=True)
    generator = torch.Generator().manual_seed(1)
    for side, texts, codes in (
        ("SRC", ENGLISH, ("eng_Latn", "hin_Deva", "tam_Taml", "gom_Deva")),
        ("TGT", HINDI, ()),
    ):
        pieces = train_pieces(texts, directory / f"spm{side}", 120)
        shutil.move(directory / f"spm{side}.model", directory / f"model.{side}")
        (directory / f"spm{side}.vocab").unlink()
        words = [pieces.id_to_piece(number) for number in range(3, pieces.vocab_size())]
        tokens = ["<s>", "<pad>", "</s>", "<unk>", *words, *codes]
        numbers = {token: number for number, token in enumerate(tokens)}
        (directory / f"dict.{side}.json").write_text(json.dumps(numbers, ensure_ascii=False))
    sizes = {  # the hub's embeddings have more rows than the dictionary has tokens
        side: len(json.loads((directory / f"dict.{side}.json").read_text())) + padding
        for side, padding in (("SRC", 5), ("TGT", 0))
    }
    width, inner = 32, 48
    config = {
        "model_type": "IndicTrans", "architectures": ["IndicTransForConditionalGeneration"],
        "activation_function": "gelu", "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2,
        "decoder_start_token_id": 2, "scale_embedding": True, "layernorm_embedding": layer_norm,
        "encoder_vocab_size": sizes["SRC"], "decoder_vocab_size": sizes["TGT"],
        "share_decoder_input_output_embed": tied,
        **{f"{side}_{key}": value for side in ("encoder", "decoder") for key, value in (
            ("embed_dim", width), ("ffn_dim", inner), ("layers", 2), ("attention_heads", 4),
            ("normalize_before", True), ("layerdrop", 0))},
        "max_source_positions": 64, "max_target_positions": 64, "is_encoder_decoder": True,
    }  # fmt: skip
    (directory / "config.json").write_text(json.dumps(config))

    def tensor(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * 0.3

    state: dict[str, torch.Tensor] = {}

    def linear(name: str, outputs: int, inputs: int) -> None:
        state[f"{name}.weight"], state[f"{name}.bias"] = tensor(outputs, inputs), tensor(outputs)

    def norm(name: str) -> None:
        state[f"{name}.weight"], state[f"{name}.bias"] = 1 + tensor(width), tensor(width)

    for side, part in (("SRC", "encoder"), ("TGT", "decoder")):
        state[f"model.{part}.embed_tokens.weight"] = tensor(sizes[side], width)
        norm(f"model.{part}.layer_norm")
        if layer_norm:
            norm(f"model.{part}.layernorm_embedding")
        for number in range(2):
            layer = f"model.{part}.layers.{number}"
            attentions = ("self_attn", "encoder_attn") if part == "decoder" else ("self_attn",)
            for attention in attentions:
                for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
                    linear(f"{layer}.{attention}.{projection}", width, width)
                norm(f"{layer}.{attention}_layer_norm")
            linear(f"{layer}.fc1", inner, width)
            linear(f"{layer}.fc2", width, inner)
            norm(f"{layer}.final_layer_norm")
    if not tied:
        state["lm_head.weight"] = tensor(sizes["TGT"], width)
    save_file(state, str(directory / "model.safetensors"), metadata={"format": "pt"})
    return directory


def make_m2m100(directory: Path) -> Path:
    """A random M2M100 checkpoint with its own small SentencePiece model."""
    import torch
    import transformers

    directory.mkdir(parents=True)
    pieces = train_pieces(
        [*ENGLISH, *HINDI], directory / "sentencepiece.bpe", 220, model_type="bpe",
        bos_id=0, pad_id=1, eos_id=2, unk_id=3,
    )  # fmt: skip
    (directory / "sentencepiece.bpe.vocab").unlink()
    words = {pieces.id_to_piece(number): number for number in range(pieces.vocab_size())}
    (directory / "vocab.json").write_text(json.dumps(words, ensure_ascii=False))
    tokenizer = transformers.M2M100Tokenizer(
        str(directory / "vocab.json"), str(directory / "sentencepiece.bpe.model"),
        src_lang="hi", tgt_lang="en",
    )  # fmt: skip
    tokenizer.save_pretrained(directory)
    torch.manual_seed(2)
    model = transformers.M2M100ForConditionalGeneration(
        transformers.M2M100Config(
            vocab_size=len(words) + 100, max_position_embeddings=64, d_model=32,
            encoder_layers=1, decoder_layers=1, encoder_ffn_dim=48, decoder_ffn_dim=48,
            encoder_attention_heads=4,
            decoder_attention_heads=4, init_std=0.5,
        )
    )  # fmt: skip
    model.save_pretrained(directory)
    return directory


def make_marian(directory: Path) -> Path:
    """A random Marian checkpoint, English to Hindi, with two SentencePiece models."""
    import torch
    import transformers

    directory.mkdir(parents=True)
    words: list[str] = []
    for side, texts in (("source", ENGLISH), ("target", HINDI)):
        pieces = train_pieces(texts, directory / side, 120)
        shutil.move(directory / f"{side}.model", directory / f"{side}.spm")
        (directory / f"{side}.vocab").unlink()
        words += [pieces.id_to_piece(number) for number in range(3, pieces.vocab_size())]
    tokens = ["</s>", "<unk>", *dict.fromkeys(words), "<pad>"]
    numbers = {token: number for number, token in enumerate(tokens)}
    (directory / "vocab.json").write_text(json.dumps(numbers, ensure_ascii=False))
    (directory / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "MarianTokenizer", "source_lang": "eng",
                    "target_lang": "hin", "model_max_length": 512})
    )  # fmt: skip
    torch.manual_seed(3)
    pad = numbers["<pad>"]
    model = transformers.MarianMTModel(
        transformers.MarianConfig(
            vocab_size=len(tokens), decoder_vocab_size=len(tokens), max_position_embeddings=64,
            d_model=32, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=48, decoder_ffn_dim=48,
            encoder_attention_heads=4, decoder_attention_heads=4, pad_token_id=pad,
            eos_token_id=0, bos_token_id=0, decoder_start_token_id=pad, forced_eos_token_id=0,
            init_std=0.5, scale_embedding=True, activation_function="swish",
        )
    )  # fmt: skip
    model.generation_config.bad_words_ids = [[pad]]
    model.save_pretrained(directory)
    return directory


def train_m2m100(directory: Path) -> Path:
    """An M2M100 checkpoint that knows the sentences above by heart, both ways: real text in tests.

    About 10 s on one core.
    """
    import torch
    import transformers

    make_m2m100(directory)
    tokenizer = transformers.M2M100Tokenizer.from_pretrained(directory)
    model = transformers.M2M100ForConditionalGeneration(
        transformers.M2M100Config(
            vocab_size=tokenizer.encoder_size + 100, max_position_embeddings=64, d_model=64,
            encoder_layers=1, decoder_layers=1, encoder_ffn_dim=128, decoder_ffn_dim=128,
            encoder_attention_heads=4, decoder_attention_heads=4, dropout=0.0,
            attention_dropout=0.0, encoder_layerdrop=0.0, decoder_layerdrop=0.0,
        )
    )  # fmt: skip
    inputs: list[torch.Tensor] = []
    outputs: list[torch.Tensor] = []
    for source, target, texts in (
        ("hi", "en", zip(HINDI, ENGLISH, strict=True)),
        ("en", "hi", zip(ENGLISH, HINDI, strict=True)),
    ):
        tokenizer.src_lang, tokenizer.tgt_lang = source, target
        for text, translation in texts:
            pair = tokenizer(text, text_target=translation, return_tensors="pt")
            inputs.append(pair["input_ids"][0])
            outputs.append(pair["labels"][0])
    ids = torch.nn.utils.rnn.pad_sequence(inputs, batch_first=True, padding_value=1)
    labels = torch.nn.utils.rnn.pad_sequence(outputs, batch_first=True, padding_value=-100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    loss = torch.tensor(torch.inf)
    for _ in range(250):
        loss = model(input_ids=ids, attention_mask=ids.ne(1), labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < 0.01:
            break
    assert loss < 0.05, f"the tiny model did not learn its sentences (loss {loss:.2f})"
    model.save_pretrained(directory)
    (directory / "voxroute.json").write_text(
        json.dumps({"language_pairs": [["hi", "en"], ["en", "hi"]], "license": "Apache-2.0"})
    )
    return directory


_MAKERS: dict[str, Callable[..., Path]] = {
    "en-indic-tiny": build_indictrans2,
    "m2m100-tiny": make_m2m100,
    "opus-mt-en-hi": make_marian,
    "learned": train_m2m100,
}


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The directory of a tiny checkpoint by its name, made once."""
    root = tmp_path_factory.mktemp("checkpoints")

    def make(name: str) -> Path:
        directory = root / name
        if directory.exists():
            return directory
        try:
            return _MAKERS[name](directory)
        except BaseException:  # a half checkpoint would fail every later test in its own way
            shutil.rmtree(directory, ignore_errors=True)
            raise

    return make


@pytest.fixture
def make_indictrans2() -> Callable[..., Path]:
    """A maker of IndicTrans2 checkpoints: (directory, tied=..., layer_norm=...)."""
    return build_indictrans2
