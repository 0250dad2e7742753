"""One subtitle file to other languages."""

import asyncio
import contextlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from voxroute_orchestrator.client.calling import in_job
from voxroute_orchestrator.client.items import ItemPool, TranslateItem
from voxroute_orchestrator.client.messages import Accepted
from voxroute_orchestrator.client.translate import TranslateRequest
from voxroute_orchestrator.errors import UsageError, VoxrouteError
from voxroute_orchestrator.files import write_atomic
from voxroute_orchestrator.fleet.connect import Connected, services
from voxroute_orchestrator.fleet.needs import Needs
from voxroute_orchestrator.glossary import tally
from voxroute_orchestrator.pipeline.recording import check_pairs, environment, languages_of
from voxroute_orchestrator.pipeline.summary import translation_summary
from voxroute_orchestrator.pipeline.translation import tell_ignored
from voxroute_orchestrator.reporter import Reporter, waits
from voxroute_orchestrator.settings import Settings
from voxroute_orchestrator.spec import JobSpec
from voxroute_orchestrator.subtitles.cues import Cue, rewrapped, with_speakers
from voxroute_orchestrator.subtitles.formats import FORMATS, to_srt
from voxroute_orchestrator.subtitles.linebreaks import flat
from voxroute_orchestrator.subtitles.results import keep_own_files, subtitle_name
from voxroute_orchestrator.subtitles.rules import DEFAULT_RULES, CueRules
from voxroute_orchestrator.subtitles.turns import Turn, turns_of
from voxroute_orchestrator.transcript import (
    Note,
    TranslatedSegment,
    TranslationStats,
)
from voxroute_serving.telemetry.logs import get_logger

_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class FileJob:
    """The translation of a subtitle file."""

    title: str
    cues: list[Cue]
    source: str
    spec: JobSpec
    folder: Path
    rules: CueRules = DEFAULT_RULES
    results: dict[str, dict[int, TranslatedSegment]] = field(
        default_factory=dict[str, dict[int, TranslatedSegment]]
    )
    """By language, by number of the turn."""

    @cached_property
    def turns(self) -> list[tuple[int, Turn]]:
        """What is said in turn, each with the number of its cue."""
        return [
            (number, turn)
            for number, cue in enumerate(self.cues)
            for turn in turns_of(cue.text) or [Turn("", cue.text)]
        ]

    def of_cues(self, target: str) -> list[TranslatedSegment]:
        """The results under the numbers of their cues: of a cue with several turns all of them."""
        return [
            result.model_copy(update={"segment_id": self.turns[turn][0]})
            for turn, result in sorted(self.results.get(target, {}).items())
        ]

    def statuses(self, target: str) -> list[str]:
        """What became of each cue: of its turns the one that went worst."""
        worst: dict[int, str] = {}
        for result in self.of_cues(target):
            before = worst.get(result.segment_id, result.status)
            worst[result.segment_id] = min(before, result.status, key=_WORST_FIRST.index)
        return list(worst.values())

    def _translated(self, target: str) -> list[Cue]:
        """The cues all of whose turns are translated, each turn on a line with its mark."""
        results = self.results.get(target, {})
        lines: dict[int, list[str] | None] = {}
        for turn, (number, said) in enumerate(self.turns):
            before = lines.setdefault(number, [])
            if turn not in results:
                lines[number] = None
            elif before is not None:
                before.append(str(replace(said, text=_turn_text(said, results[turn]))))
        return [
            replace(self.cues[number], text="\n".join(texts))
            for number, texts in lines.items()
            if texts is not None
        ]

    def write(self, target: str) -> list[Path]:
        """Writes one language: as a partial file where cues are missing."""
        translated = self._translated(target)
        complete = len(translated) == len(self.cues)
        named = with_speakers(translated) if self.spec.speaker_prefix else translated
        wrapped = [part for cue in translated for part in rewrapped(cue, self.rules)]
        named = [part for cue in named for part in rewrapped(cue, self.rules)]
        if complete:
            texts = {
                kind: FORMATS[kind](named if kind == "srt" else wrapped, target)
                for kind in self.spec.formats
            }
        else:
            texts = {"partial.srt": to_srt(named)} if named else {}
        paths: list[Path] = []
        for kind, text in texts.items():
            paths.append(self.folder / subtitle_name(self.title, target, kind))
            write_atomic(paths[-1], text)
        keep_own_files(self.folder, self.title, paths)
        return paths


_WORST_FIRST = ("FAILED", "TRUNCATED", "SUSPECT", "OK", "PASSTHROUGH")


def _turn_text(turn: Turn, item: TranslatedSegment) -> str:
    return f"[untranslated: {flat(turn.text)}]" if item.status == "FAILED" else flat(item.text)


async def translate_subtitles(job: FileJob, settings: Settings, told: Reporter) -> list[str]:
    """Does the job; returns its summary and the paths of its files. Raises VoxrouteError."""
    with in_job("", languages_of(job.source, job.spec.target_languages)):
        return await _translate_file(job, settings, told)


async def _translate_file(job: FileJob, settings: Settings, told: Reporter) -> list[str]:
    targets = job.spec.to_translate
    needs = Needs(job.spec, speech=False, translation=True)
    if not targets:
        raise UsageError(f"the file is {job.source} already; name another language with -t")
    lines: list[str] = []
    if not job.cues:
        for target in targets:
            lines += [f"{target}: no cue to translate", *map(str, job.write(target))]
        return lines
    try:
        async with services(
            settings, needs, environment(), told.say, told.warn, waits=waits(told)
        ) as connected:
            await check_pairs(connected, job.source, targets)
            for target in targets:
                await _translate_to(job, target, connected, told)
    except (asyncio.CancelledError, VoxrouteError):
        for target in targets:
            for path in job.write(target):
                told.say(f"kept: {path}")
        raise
    for target in targets:
        lines += translation_summary(target, job.statuses(target))
        lines += tally(job.of_cues(target)).lines(target, first_id=1)
        lines += [str(path) for path in job.write(target)]
    return lines


async def _translate_to(job: FileJob, target: str, connected: Connected, told: Reporter) -> None:
    translator = connected.translators[0]
    total_s = max(cue.end_ms for cue in job.cues) / 1000
    told.stage(f"translating to {target}", total_s)
    items = ItemPool()
    texts = [flat(turn.text) for _, turn in job.turns]
    for number, text in enumerate(texts):
        first = (
            number if job.spec.strict else max(0, number - 2)
        )  # most models refuse it where strict
        items.put(TranslateItem(number, text, tuple(texts[first:number])))
    items.end()
    request = TranslateRequest(
        job.source, target, items, translator.model, total_s, job.spec.strict, job.spec.glossary
    )
    stage = f"translating to {target}"
    results = job.results.setdefault(target, {})
    async with contextlib.aclosing(translator.translate(request)) as events:
        async for event in events:
            match event:
                case Accepted():
                    _tell_accepted(event, stage, told)
                case TranslatedSegment():
                    results[event.segment_id] = event
                    cue = job.cues[job.turns[event.segment_id][0]]
                    told.advance(stage, cue.end_ms / 1000)
                case Note():
                    told.warn(event.message)
                case TranslationStats():
                    _log.info("translation done", **event.model_dump())
    told.finish(stage)


def _tell_accepted(accepted: Accepted, stage: str, told: Reporter) -> None:
    of_call = {name: value for name, value in accepted.options.items() if name != "glossary"}
    _log.info("translation accepted", request_id=accepted.request_id, options=of_call)
    told.say(f"{stage}: {accepted.model.id} ({accepted.model.engine}) on {accepted.device.name}")
    tell_ignored(accepted, told)
