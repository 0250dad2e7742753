"""The tokens and characters that the grammar uses."""

from __future__ import annotations

import random
from pathlib import Path

from tokenizers import Tokenizer

from models.train import grammar, lexicon
from models.train import whisper_tokenizer as wt

MODEL_DIR = Path(__file__).parents[1] / "asr-tiny-hi-en"
SPECIALS = [
    wt.EOT, wt.SOT, wt.language_id("hi"), wt.language_id("en"), wt.TRANSCRIBE, wt.NO_TIMESTAMPS, wt.NO_SPEECH,
    wt.SOT_PREV, wt.NEWLINE,
]  # fmt: skip


def word_list(count: int = 120_000) -> dict[str, list[str]]:
    """All words of both languages, without punctuation, that a sample of the grammar uses; sorted.

    English words are in lower case unless they always have a capital."""
    rng = random.Random(11)
    found: dict[str, set[str]] = {"hi": set(), "en": set()}
    pairs = [grammar.sentence(rng) for _ in range(count)] + grammar.FIXED
    for pair in pairs:
        found["hi"].update(pair.hi.translate(grammar._PUNCTUATION).split())
        found["en"].update(pair.en.translate(grammar._PUNCTUATION).split())
    found["hi"].update(lexicon.NUMBERS_HI)
    found["en"] -= {
        w for w in found["en"] if w[0].isupper() and w[0].lower() + w[1:] in found["en"]
    }
    return {language: sorted(words) for language, words in found.items()}


class Vocabulary:
    """The compact vocabulary of the grammar: token ids, and characters for CTC (0 is blank)."""

    def __init__(self) -> None:
        tokenizer = Tokenizer.from_file(str(MODEL_DIR / "tokenizer.json"))
        words = self.words = word_list()
        self._ids: dict[str, list[int]] = {}
        for language, marks in (("hi", ["", "।", "?", ","]), ("en", ["", ".", "?", ","])):
            capitals = {w[0].upper() + w[1:] for w in words[language]}
            for word in sorted(capitals.union(words[language])):
                for mark in marks:
                    text = f" {word}{mark}"
                    self._ids[word + mark] = tokenizer.encode(text, add_special_tokens=False).ids
        text_ids = sorted({i for ids in self._ids.values() for i in ids} - {wt.NEWLINE})
        self.ids = [*text_ids, *SPECIALS, *range(wt.TIMESTAMP_BEGIN, wt.VOCABULARY)]
        self.compact = {full: i for i, full in enumerate(self.ids)}
        self.first_timestamp = self.compact[wt.TIMESTAMP_BEGIN]
        self.unused = wt.VOCABULARY - len(self.ids)
        characters = sorted({c for w in words["hi"] + words["en"] for c in w.lower()} | {" "})
        self.characters = characters
        self.character = {c: i + 1 for i, c in enumerate(characters)}
        self._tokenizer = tokenizer

    def __len__(self) -> int:
        return len(self.ids) + 1

    def encode(self, text: str) -> list[int]:
        """Compact ids of " text"."""
        return [self.compact[i] for word in text.split() for i in self._ids[word]]

    def encode_characters(self, text: str) -> list[int]:
        return [self.character[c] for c in grammar.plain(text)]

    def decode(self, compact: list[int]) -> str:
        full = [self.ids[i] for i in compact if i < len(self.ids)]
        return self._tokenizer.decode([i for i in full if i < wt.EOT], skip_special_tokens=True)
