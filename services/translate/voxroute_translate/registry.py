"""Which models there are, what each can translate, and which one answers a pair.

What a model can do is read from its own files, so that a local directory and a hub id are the same
thing: the language tokens of its tokenizer (NLLB, M2M100, Marian), its dictionaries (IndicTrans2),
or a `voxroute.json` beside them, {"language_pairs": [["hi", "en"]], "license": "Apache-2.0"}.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from voxroute_serving.errors import InvalidInputError, ModelNotFoundError, ModelUnavailableError
from voxroute_translate import languages
from voxroute_translate.languages import Language

Format = Literal["indictrans2", "nllb", "m2m100", "marian"]

PERMISSIVE_MODEL = "facebook/m2m100_418M"
"""The MIT-licensed choice in NLLB's place."""

# Licences of well-known models, as their cards on the hub state them.
_LICENSES = (
    (re.compile(r"indictrans2", re.IGNORECASE), "MIT"),
    (re.compile(r"nllb", re.IGNORECASE), "CC-BY-NC-4.0"),
    (re.compile(r"m2m100", re.IGNORECASE), "MIT"),
    (re.compile(r"opus-mt", re.IGNORECASE), "Apache-2.0"),
)
_SPDX = {"mit": "MIT", "apache-2.0": "Apache-2.0", "cc-by-nc-4.0": "CC-BY-NC-4.0",
         "cc-by-4.0": "CC-BY-4.0", "cc-by-sa-4.0": "CC-BY-SA-4.0"}  # fmt: skip

_FLORES = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}")
_M2M100 = re.compile(r"__([a-z_]+)__")
_MARIAN = re.compile(r">>([A-Za-z_]+)<<")
_OPUS_NAME = re.compile(r"opus-mt-(?:tc-\w+-)?([A-Za-z]+)-([A-Za-z]+)$")
_DIRECTION = re.compile(r"(indic|en)-(indic|en)(?![a-z])")
# M2M100's 100 languages (arXiv:2010.11125): its tokenizer knows them by heart, not from a file.
_M2M100_CODES = """
af am ar ast az ba be bg bn br bs ca ceb cs cy da de el en es et fa ff fi fr fy ga gd gl gu ha he
hi hr ht hu hy id ig ilo is it ja jv ka kk km kn ko lb lg ln lo lt lv mg mk ml mn mr ms my ne nl no
ns oc or pa pl ps pt ro ru sd si sk sl so sq sr ss su sv sw ta th tl tn tr uk ur uz vi wo xh yi yo
zh zu
"""
_CONTEXT_UNUSED: Mapping[Format, str] = {
    "indictrans2": "IndicTrans2 was trained on single sentences and translates each on its own",
    "nllb": "NLLB was trained on single sentences and translates each on its own",
    "m2m100": "M2M100 was trained on single sentences and translates each on its own",
    "marian": "this Marian model was trained on single sentences and translates each on its own",
}
_NOT_ISO = {"ns": "nso"}  # M2M100's name for Northern Sotho


@dataclass(frozen=True, eq=False)
class ModelCard:
    """A model in a local directory: what it is, and what it translates."""

    name: str
    """As a request names it: a hub id, or the name of the local directory."""
    directory: Path
    format: Format
    revision: str
    license: str
    """SPDX; empty where nobody says."""
    sources: Mapping[Language, str]
    """Languages that it reads, with the model's own codes."""
    targets: Mapping[Language, str]
    """Languages that it writes."""
    only: frozenset[tuple[Language, Language]] | None = None
    """The pairs it was made for, where that is not every source with every target."""

    @property
    def context_unused(self) -> str:
        """Why the texts before an item do not change its translation."""
        return _CONTEXT_UNUSED[self.format]

    @property
    def placeholder(self) -> str:
        """A text with {number} in it that the model was trained to copy; empty if it has none.

        IndicTrans2's processor puts <ID1> for "#t1", and "#t1" for <ID1> after the model.
        """
        return "#t{number}" if self.format == "indictrans2" else ""

    def supports(self, source: Language, target: Language) -> bool:
        """Whether it translates the pair."""
        if source == target or source not in self.sources or target not in self.targets:
            return False
        return self.only is None or (source, target) in self.only

    def pairs(self) -> Iterator[tuple[Language, Language]]:
        """Every pair that it translates."""
        for source in self.sources:
            for target in self.targets:
                if self.supports(source, target):
                    yield source, target


class Registry:
    """The models of a service, in the order of preference."""

    def __init__(self, cards: Sequence[ModelCard]) -> None:
        self._cards = list(cards)

    @property
    def cards(self) -> Sequence[ModelCard]:
        """The models, the default first."""
        return tuple(self._cards)

    def add(self, card: ModelCard) -> None:
        """Adds a model that was fetched for a request; a request has to name it."""
        self._cards.append(card)

    def known(self, name: str) -> ModelCard | None:
        """The model of that name, "" for the default; None where there is none."""
        if not name and self._cards:
            return self._cards[0]
        return next((card for card in self._cards if card.name == name), None)

    @property
    def languages(self) -> set[Language]:
        """Every language of every model."""
        return {language for card in self._cards for language in (*card.sources, *card.targets)}

    def choose(
        self, source: Language, target: Language, card: ModelCard | None = None
    ) -> ModelCard:
        """The model that answers the pair: `card`, or the first that can.

        Raises InvalidInputError that names what could be asked for instead.
        """
        if source == target:
            raise InvalidInputError.of_field(
                "target_language",
                f"is the source language too ({target.tag}); nothing to translate",
            )
        candidates = self._cards if card is None else [card]
        for candidate in candidates:
            if candidate.supports(source, target):
                return candidate
        who = "no model of this service" if card is None else f"{card.name} does not"
        verb = "translates" if card is None else "translate"
        pairs = [pair for candidate in candidates for pair in candidate.pairs()]
        targets = {to.tag for of, to in pairs if of == source}
        sources = {of.tag for of, to in pairs if to == target}
        if targets:
            field, hint = (
                "config.target_language",
                f"{source.tag} goes to {languages.listed(targets)}",
            )
        elif sources:
            field, hint = (
                "config.source_language",
                f"{target.tag} comes from {languages.listed(sources)}",
            )
        else:
            every = {language.tag for pair in pairs for language in pair}
            field, hint = (
                "config.source_language",
                f"the languages here are {languages.listed(every)}",
            )
        raise InvalidInputError.of_field(
            field, f"{who} {verb} {source.tag} to {target.tag}; {hint}"
        )

    def table(self) -> list[tuple[Language, Language, ModelCard]]:
        """Every pair with the model that answers it, ordered by source, then target."""
        chosen: dict[tuple[Language, Language], ModelCard] = {}
        for card in self._cards:
            for pair in card.pairs():
                chosen.setdefault(pair, card)
        ordered = sorted(chosen, key=lambda pair: (pair[0].tag, pair[1].tag))
        return [(*pair, chosen[pair]) for pair in ordered]


def split_name(name: str) -> tuple[str, str | None]:
    """A model's name and the revision that is pinned behind an @ ("org/model@<commit>")."""
    model, _, revision = name.partition("@") if not Path(name).exists() else (name, "", "")
    return model, revision or None


def describe(
    name: str, directory: Path, revision_of: Callable[[Path], str], revision: str | None = None
) -> ModelCard:
    """What the model in a directory is and can do, from its files; nothing is loaded.

    Raises ModelNotFoundError where the files are no translation model,
    ModelUnavailableError where they do not say what it translates.
    """
    config = _json(directory / "config.json")
    if not config:
        raise ModelNotFoundError(
            f"{name} holds no config.json; give the directory of an M2M100, NLLB, Marian or"
            " IndicTrans2 model in Hugging Face format"
        )
    kind = _format(name, directory, config)
    extra = _json(directory / "voxroute.json")
    only = frozenset(
        (languages.parse(source), languages.parse(target))
        for source, target in cast("list[tuple[str, str]]", extra.get("language_pairs", []))
    )
    sources, targets = _coded_languages(name, directory, kind, config, only)
    if not sources or not targets:
        raise ModelUnavailableError(
            f"{name} does not say which languages it translates; write"
            ' {"language_pairs": [["hi", "en"]]} into a voxroute.json in its directory'
        )
    return ModelCard(
        name=_public_name(name),
        directory=directory,
        format=kind,
        revision=revision or revision_of(directory),
        license=_license(name, directory, extra),
        sources=sources,
        targets=targets,
        only=only or None,
    )


def _public_name(name: str) -> str:
    """A hub id as it is; of a local directory only its name: paths are nobody's business."""
    return Path(name).resolve().name if Path(name).exists() else name


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelUnavailableError(f"{path.name} of the model cannot be read: {error}") from error
    return cast("dict[str, Any]", content) if isinstance(content, dict) else {}


def _format(name: str, directory: Path, config: Mapping[str, Any]) -> Format:
    kind = str(config.get("model_type", ""))
    if kind == "IndicTrans":
        return "indictrans2"
    if kind == "marian":
        return "marian"
    if kind == "m2m_100":
        codes = _special_tokens(directory)
        return "nllb" if any(_FLORES.fullmatch(code) for code in codes) else "m2m100"
    raise ModelNotFoundError(
        f"{name} is a model of type {kind!r}, which is not served here; use an M2M100, NLLB, Marian"
        " or IndicTrans2 model"
    )


def _special_tokens(directory: Path) -> set[str]:
    """Tokens that stand for more than text, from whichever files of a tokenizer are there."""
    tokens: set[str] = set()

    def add(entries: Iterable[Any]) -> None:
        for entry in entries:
            content = (
                cast("dict[str, Any]", entry).get("content") if isinstance(entry, dict) else entry
            )
            tokens.add(str(content))

    for file in ("special_tokens_map.json", "tokenizer_config.json"):
        content = _json(directory / file)
        add(content.get("additional_special_tokens") or ())
        add(content.get("extra_special_tokens") or ())
        added = cast("dict[str, Any]", content.get("added_tokens_decoder") or {})
        add(added.values())
    add(_json(directory / "tokenizer.json").get("added_tokens") or ())
    add(_json(directory / "added_tokens.json"))
    return tokens


def _coded(codes: Iterable[str]) -> dict[Language, str]:
    """The languages of a model's codes; where two codes are one language here, the first stays."""
    coded: dict[Language, str] = {}
    for code in sorted(codes):
        try:
            language = languages.parse(_NOT_ISO.get(code, code))
        except ValueError:
            continue  # a token that is no language
        coded.setdefault(language, code)
    return coded


def _coded_languages(
    name: str,
    directory: Path,
    kind: Format,
    config: Mapping[str, Any],
    only: frozenset[tuple[Language, Language]],
) -> tuple[dict[Language, str], dict[Language, str]]:
    """Languages that a model reads and those that it writes, with its own codes."""
    if kind == "indictrans2":
        return _indictrans2_languages(name, directory, config, only)
    if kind == "marian":
        return _marian_languages(name, directory, only)
    tokens = _special_tokens(directory)
    if kind == "nllb":
        coded = _coded(token for token in tokens if _FLORES.fullmatch(token))
    else:
        matches = [match for match in map(_M2M100.fullmatch, tokens) if match]
        coded = _coded([match.group(1) for match in matches] or _M2M100_CODES.split())
    if not only:
        return coded, coded
    return (
        {language: coded[language] for language, _ in only if language in coded},
        {language: coded[language] for _, language in only if language in coded},
    )


def _indictrans2_languages(
    name: str,
    directory: Path,
    config: Mapping[str, Any],
    only: frozenset[tuple[Language, Language]],
) -> tuple[dict[Language, str], dict[Language, str]]:
    dictionary = _json(directory / "dict.SRC.json")
    coded = _coded(code for code in languages.INDICTRANS2_CODES if code in dictionary)
    if only:
        return (
            {language: coded[language] for language, _ in only if language in coded},
            {language: coded[language] for _, language in only if language in coded},
        )
    match = _DIRECTION.search(name) or _DIRECTION.search(str(config.get("_name_or_path", "")))
    if match is None:
        return {}, {}
    english = {of: code for of, code in coded.items() if code == "eng_Latn"}
    indic = {of: code for of, code in coded.items() if code != "eng_Latn"}
    sides = {"en": english, "indic": indic}
    return sides[match.group(1)], sides[match.group(2)]


def _marian_languages(
    name: str, directory: Path, only: frozenset[tuple[Language, Language]]
) -> tuple[dict[Language, str], dict[Language, str]]:
    tokenizer = _json(directory / "tokenizer_config.json")
    opus = _OPUS_NAME.search(name)
    source = str(tokenizer.get("source_lang") or (opus.group(1) if opus else ""))
    target = str(tokenizer.get("target_lang") or (opus.group(2) if opus else ""))
    matches = map(_MARIAN.fullmatch, _json(directory / "vocab.json"))
    many = _coded(match.group(1) for match in matches if match)
    if only:
        return (
            {language: language.tag for language, _ in only},
            {language: many.get(language, language.tag) for _, language in only},
        )
    return _coded([source]), many or _coded([target])


def _license(name: str, directory: Path, extra: Mapping[str, Any]) -> str:
    """The licence as voxroute.json, the model card, or common knowledge states it."""
    if extra.get("license"):
        return str(extra["license"])
    card = directory / "README.md"
    if card.is_file():
        stated = re.search(
            r"\A---\n.*?^license:\s*[\"']?([\w.+-]+)",
            card.read_text("utf-8"),
            re.DOTALL | re.MULTILINE,
        )
        if stated:
            return _SPDX.get(stated.group(1).lower(), stated.group(1))
    return next((known for pattern, known in _LICENSES if pattern.search(name)), "")
