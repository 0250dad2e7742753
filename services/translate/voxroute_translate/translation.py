"""The way of one item: a cue to sentences, sentences through the device, the cue again."""

from dataclasses import dataclass, field, replace
from enum import Enum

from voxroute_serving.device.batcher import Batcher, Timed
from voxroute_serving.errors import NotReadyError, ServingError
from voxroute_serving.scripts import has_letters, script_share, share_letters
from voxroute_serving.telemetry.logs import get_logger
from voxroute_translate import sentences
from voxroute_translate.enforcement import Enforcement
from voxroute_translate.engine import BatchKey, Decoding, Output, TranslationModel
from voxroute_translate.glossary import Glossary, Use
from voxroute_translate.languages import Language, writes_without_blanks
from voxroute_translate.quality import NO_DOUBT, Doubt
from voxroute_translate.texts import at_once

_SECOND_BEAM_SIZE = 5  # beyond it little is gained

_log = get_logger(__name__)


class Status(Enum):
    """What became of an item; the values are those of voxroute.translate.v1.ItemStatus."""

    OK = 1
    PASSTHROUGH = 2
    TRUNCATED = 3
    SUSPECT = 4
    FAILED = 5


@dataclass(frozen=True, slots=True)
class ItemResult:
    """The translation of an item, what became of it, and why."""

    text: str
    status: Status
    detail: str = ""
    uses: tuple[Use, ...] = ()
    """The glossary terms that stand in the source, in the order of the glossary."""


@dataclass(slots=True)
class CallStats:
    """What a call has cost so far; times in seconds."""

    items: int = 0
    sentences: int = 0
    queue_s: float = 0.0
    inference_s: float = 0.0

    def add(self, timed: Timed[Output]) -> None:
        """Counts one sentence that went through the model."""
        self.sentences += 1
        self.queue_s += timed.queue_s
        self.inference_s += timed.inference_s


@dataclass(frozen=True, slots=True)
class _Sentence:
    """The translation of one sentence and what is wrong with it."""

    text: str
    doubt: Doubt = NO_DOUBT
    input_cut: bool = False
    output_cut: bool = False


@dataclass(slots=True)
class Translation:
    """A pair, a model and options: translates the items of one call."""

    model: TranslationModel
    source: Language
    target: Language
    decoding: Decoding
    batcher: Batcher[str, Output]
    max_item_characters: int
    glossary: Glossary = field(default_factory=lambda: Glossary(()))
    stats: CallStats = field(default_factory=CallStats)
    _terms: Enforcement = field(init=False)

    def __post_init__(self) -> None:
        self._terms = Enforcement(
            self.glossary, self.source, self.target, self.model.card.placeholder, self._uncut
        )

    async def item(self, text: str) -> ItemResult:
        """What became of one item. Only the end of the service is raised (NotReadyError)."""
        self.stats.items += 1
        result = await self._item(text)
        if not self.glossary or len(text) > self.max_item_characters:
            return result
        uses = self.glossary.uses(sentences.without_tags(text), result.text)
        return replace(result, uses=tuple(uses))

    async def _item(self, text: str) -> ItemResult:
        if len(text) > self.max_item_characters:
            return ItemResult(
                "",
                Status.FAILED,
                f"the text has {len(text)} characters; send at most {self.max_item_characters}",
            )
        cue = sentences.parse_cue(text)
        if not cue.sentences:
            return ItemResult(
                sentences.one_line(text), Status.PASSTHROUGH, "there is nothing to translate in it"
            )
        if all(self._is_target_already(sentence) for sentence in cue.sentences):
            return ItemResult(
                sentences.one_line(text),
                Status.PASSTHROUGH,
                f"the text is in the script of {self.target.tag} already",
            )
        try:
            translated = await at_once(self._sentence, cue.sentences)
        except NotReadyError:
            raise
        except ServingError as error:
            _log.warning("item failed", error=str(error), reason=error.reason, exc_info=True)
            return ItemResult("", Status.FAILED, error.message)
        return self._joined(cue, translated)

    def _is_target_already(self, sentence: str) -> bool:
        if share_letters(self.source.script, self.target.script):
            return False
        return script_share(sentence, self.target.script) == 1.0

    def _joined(self, cue: sentences.Cue, translated: list[_Sentence]) -> ItemResult:
        between = "" if writes_without_blanks(self.target.script) else " "
        text = cue.join([each.text for each in translated], between=between)
        doubts = list(dict.fromkeys(each.doubt.reason for each in translated if each.doubt))
        if not has_letters(text) or not any(each.text for each in translated):
            return ItemResult("", Status.FAILED, "the model gave no text, twice")
        if doubts:
            return ItemResult(text, Status.SUSPECT, "; ".join(doubts))
        if any(each.input_cut for each in translated):
            detail = "a part without blanks is longer than the model's limit of input tokens"
            return ItemResult(text, Status.TRUNCATED, detail)
        if any(each.output_cut for each in translated):
            detail = "the translation reached the model's limit of output tokens"
            return ItemResult(text, Status.TRUNCATED, detail)
        return ItemResult(text, Status.OK)

    async def _sentence(self, sentence: str) -> _Sentence:
        """The translation of one sentence, split further where the model cannot take it whole."""
        if self._is_target_already(sentence):
            return _Sentence(sentence)
        settled = self._terms.whole(sentence)
        if settled:
            return _Sentence(settled)
        source, target = self._codes
        parts = sentences.split_to_fit(sentence, lambda part: self.model.fits(part, source, target))
        translated = await at_once(self._part, parts)
        between = "" if writes_without_blanks(self.target.script) else " "
        return _Sentence(
            between.join(each.text for each in translated),
            max((each.doubt for each in translated), key=lambda doubt: doubt.severity),
            any(each.input_cut for each in translated),
            any(each.output_cut for each in translated),
        )

    async def _part(self, text: str) -> _Sentence:
        """The translation of what the model takes at once, with the terms of the glossary.

        A doubtful one is tried once more, and the better of the two is kept; of equally doubtful
        ones the first. The second try forbids repeated n-grams, which is what ends a loop.
        """
        output, retried = await self._run(text, self.decoding), ""
        doubt = self._terms.doubt(text, output.text)
        if doubt:
            again = replace(
                self.decoding,
                beam_size=max(self.decoding.beam_size, _SECOND_BEAM_SIZE),
                no_repeat_ngram_size=3,
                repetition_penalty=1.2,
            )
            second, retried = await self._run(text, again), "first"
            if self._terms.doubt(text, second.text).severity < doubt.severity:
                output, retried = second, "second"
        translation = await self._terms.apply(text, output.text)
        doubt = self._terms.doubt(text, translation)
        if doubt and retried:
            reason = f"{doubt.reason}; of two tries the {retried} is kept"
            doubt = Doubt(doubt.severity, reason)
        return _Sentence(translation, doubt, output.input_cut, output.output_cut)

    @property
    def _codes(self) -> tuple[str, str]:
        return self.model.card.sources[self.source], self.model.card.targets[self.target]

    async def _run(self, text: str, decoding: Decoding) -> Output:
        timed = await self.batcher.submit(BatchKey(self.model, *self._codes, decoding), text)
        self.stats.add(timed)
        return timed.result

    async def _uncut(self, text: str) -> str:
        """The model's translation of a text; empty where a limit of tokens cut it."""
        output = await self._run(text, self.decoding)
        return "" if output.input_cut or output.output_cut else output.text
