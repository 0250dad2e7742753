"""Whisper's standard multilingual tokenizer, built offline from `multilingual.tiktoken` of the mlx-whisper wheel."""

from __future__ import annotations

import base64
import importlib.util
import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

#: Language codes in the order of Whisper's ids (50259..50357), from openai/whisper tokenizer.py.
LANGUAGES = (
    "en zh de es ru ko fr ja pt tr pl ca nl ar sv it id hi fi vi he uk el ms cs ro da hu ta no th ur hr bg lt la "
    "mi ml cy sk te fa lv bn sr az sl kn et mk br eu is hy ne mn bs kk sq sw gl mr pa si km sn yo so af oc ka be "
    "tg sd gu am yi lo uz fo ht ps tk nn mt sa lb my bo tl mg as tt haw ln ha ba jw su"
).split()

EOT, SOT, TRANSLATE, TRANSCRIBE, SOT_LM, SOT_PREV, NO_SPEECH, NO_TIMESTAMPS = (
    50257, 50258, 50358, 50359, 50360, 50361, 50362, 50363,
)  # fmt: skip
TIMESTAMP_BEGIN = 50364
TIMESTAMPS = 1501  # 0.00 .. 30.00 in steps of 0.02 s
VOCABULARY = TIMESTAMP_BEGIN + TIMESTAMPS  # 51865
NEWLINE = (
    198  # decodes to "\n": what a window without speech yields where the end is not allowed first
)

#: Tokens of symbols that are no speech, as in the checkpoints' generation_config (openai/whisper `non_speech_tokens`).
NON_SPEECH = [
    1, 2, 7, 8, 9, 10, 14, 25, 26, 27, 28, 29, 31, 58, 59, 60, 61, 62, 63, 90, 91, 92, 93, 359, 503, 522, 542, 873,
    893, 902, 918, 922, 931, 1350, 1853, 1982, 2460, 2627, 3246, 3253, 3268, 3536, 3846, 3961, 4183, 4667, 6585,
    6647, 7273, 9061, 9383, 10428, 10929, 11938, 12033, 12331, 12562, 13793, 14157, 14635, 15265, 15618, 16553,
    16604, 18362, 18956, 20075, 21675, 22520, 26130, 26161, 26435, 28279, 29464, 31650, 32302, 32470, 36865, 42863,
    47425, 49870, 50254,
]  # fmt: skip


def language_id(code: str) -> int:
    """The id of `<|code|>`."""
    return SOT + 1 + LANGUAGES.index(code)


def special_tokens() -> list[str]:
    """The texts of ids 50257..50363."""
    return [
        "<|endoftext|>",
        "<|startoftranscript|>",
        *(f"<|{code}|>" for code in LANGUAGES),
        "<|translate|>",
        "<|transcribe|>",
        "<|startoflm|>",
        "<|startofprev|>",
        "<|nospeech|>",
        "<|notimestamps|>",
    ]


def _bytes_to_unicode() -> dict[int, str]:
    """GPT-2's printable stand-ins for bytes (openai/gpt-2 encoder.py)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {b: chr(b) for b in printable}
    for extra, b in enumerate(b for b in range(256) if b not in table):
        table[b] = chr(256 + extra)
    return table


def _split(ranks: dict[bytes, int], token: bytes, below: int) -> list[bytes]:
    """The pieces that `token` has when only merges of a rank below `below` are applied."""
    parts = [bytes([b]) for b in token]
    while len(parts) > 1:
        candidates = [(ranks.get(parts[i] + parts[i + 1], below), i) for i in range(len(parts) - 1)]
        rank, at = min(candidates)
        if rank >= below:
            break
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


def build(directory: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json, vocab.json, merges.txt and their companions to `directory`."""
    spec = importlib.util.find_spec("mlx_whisper")
    if spec is None or spec.origin is None:
        raise RuntimeError("the tokenizer is built from the mlx-whisper wheel: install mlx-whisper")
    ranks: dict[bytes, int] = {}
    for line in (
        (Path(spec.origin).parent / "assets" / "multilingual.tiktoken").read_bytes().splitlines()
    ):
        token, rank = line.split()
        ranks[base64.b64decode(token)] = int(rank)
    letters = _bytes_to_unicode()

    def printable(token: bytes) -> str:
        return "".join(letters[b] for b in token)

    vocabulary = {printable(t): r for t, r in ranks.items()}
    merges = [
        (printable(left), printable(right))
        for token, rank in sorted(ranks.items(), key=lambda item: item[1])
        if len(token) > 1
        for left, right in [_split(ranks, token, rank)]
    ]
    for offset, text in enumerate(special_tokens()):
        vocabulary[text] = EOT + offset
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(t, normalized=False, special=True) for t in special_tokens()]
    )
    timestamps = [f"<|{i * 0.02:.2f}|>" for i in range(TIMESTAMPS)]
    tokenizer.add_tokens([AddedToken(t, normalized=False, special=False) for t in timestamps])
    prefix = ["<|startoftranscript|>", "<|notimestamps|>"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{prefix[0]} {prefix[1]} $A <|endoftext|>",
        pair=f"{prefix[0]} {prefix[1]} $A $B <|endoftext|>",
        special_tokens=[(t, tokenizer.token_to_id(t)) for t in (*prefix, "<|endoftext|>")],
    )
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"), pretty=False)

    def write(name: str, value: object) -> None:
        (directory / name).write_text(json.dumps(value, ensure_ascii=False, indent=None) + "\n")

    write("vocab.json", {t: i for t, i in vocabulary.items() if i < EOT} | {"<|endoftext|>": EOT})
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
    (directory / "merges.txt").write_text("\n".join(lines) + "\n")
    write(
        "added_tokens.json",
        {t: EOT + i for i, t in enumerate(special_tokens()) if i}
        | {t: TIMESTAMP_BEGIN + i for i, t in enumerate(timestamps)},
    )
    ends = dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token"), "<|endoftext|>")
    write("special_tokens_map.json", ends | {"additional_special_tokens": special_tokens()})
    write("normalizer.json", {})
    added = {
        EOT + i: {
            "content": t,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": i < len(special_tokens()),
        }
        for i, t in enumerate([*special_tokens(), *timestamps])
    }
    write(
        "tokenizer_config.json",
        {
            "add_bos_token": False,
            "add_prefix_space": False,
            "added_tokens_decoder": added,
            "additional_special_tokens": special_tokens(),
            **ends,
            "clean_up_tokenization_spaces": False,
            "errors": "replace",
            "model_max_length": 1024,
            "processor_class": "WhisperProcessor",
            "return_attention_mask": False,
            "tokenizer_class": "WhisperTokenizer",
        },
    )


if __name__ == "__main__":
    build(Path(__file__).parents[1] / "asr-tiny-hi-en")
