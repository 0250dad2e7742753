"""Subtitles that grow while somebody speaks: each file is whole after every cue.

A cue stays as long as it takes to read, unless the next one comes earlier: then its end is moved,
in the same write that adds the next.
"""

import contextlib
import os
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from voxroute.asr.v1 import asr_pb2
from voxroute.live.v1 import live_pb2
from voxroute_orchestrator.client.messages import seconds, segment
from voxroute_orchestrator.errors import OutputError, UsageError, VoxrouteError
from voxroute_orchestrator.files import claimed
from voxroute_orchestrator.subtitles.cues import Cue, source_cues, translated_cues
from voxroute_orchestrator.subtitles.formats import VTT_HEAD, to_srt, to_vtt
from voxroute_orchestrator.subtitles.results import (
    UNKNOWN_LANGUAGE,
    keep_own_files,
    prepare_translations,
    subtitle_name,
    subtitle_names,
)
from voxroute_orchestrator.subtitles.rules import CueRules
from voxroute_orchestrator.transcript import Segment, TranslatedSegment, Translation

_WRITERS: dict[str, tuple[str, Callable[[Cue, int], str]]] = {
    "srt": ("", lambda cue, number: to_srt([cue], first=number)),
    "vtt": (VTT_HEAD, lambda cue, number: to_vtt([cue], head="")),  # noqa: ARG005 - it has none
}
"""Of the formats that can grow, how a file begins, and a cue as text, given its number."""


def check_formats(formats: Iterable[str]) -> None:
    """Raises UsageError for one that cannot grow."""
    others = [kind for kind in formats if kind not in _WRITERS]
    if others:
        raise UsageError(
            f"{', '.join(others)} cannot be written while somebody speaks; --format takes"
            f" {','.join(_WRITERS)} here"
        )


class _GrowingFile:
    """One file. Raises OutputError."""

    def __init__(self, path: Path, kind: str, rules: CueRules) -> None:
        head, self._text = _WRITERS[kind]
        self.path = path
        self._rules = rules
        self._last: Cue | None = None
        self._last_at = len(head)
        self.n_cues = 0
        with self._told():
            self._descriptor = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o666)
        try:
            self._write(head, 0)
        except OutputError:  # a full disk
            self.close()
            path.unlink(missing_ok=True)
            raise

    def add(self, cue: Cue) -> None:
        """Writes a cue behind the last one, which ends before it begins."""
        before = ""
        if self._last is not None:
            start_ms = max(cue.start_ms, self._last.start_ms + 2)
            cue = replace(cue, start_ms=start_ms, end_ms=max(cue.end_ms, start_ms + 1))
            end_ms = max(self._last.start_ms + 1, start_ms - self._rules.min_gap_ms)
            end_ms = min(self._last.end_ms, end_ms)
            before = self._text(replace(self._last, end_ms=end_ms), self.n_cues)
        self.n_cues += 1
        self._write(before + self._text(cue, self.n_cues), self._last_at)
        self._last, self._last_at = cue, self._last_at + len(before.encode())

    def _write(self, text: str, at: int) -> None:
        data = text.encode()
        with self._told():
            whole_bytes = os.fstat(self._descriptor).st_size
            try:
                while data:
                    written = os.pwrite(self._descriptor, data, at)
                    data, at = data[written:], at + written
            except OSError:  # a full disk takes a part of a cue
                os.ftruncate(self._descriptor, whole_bytes)
                raise

    def close(self) -> None:
        """Ends it."""
        os.close(self._descriptor)

    @contextlib.contextmanager
    def _told(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written: {error.strerror}") from error


@dataclass(slots=True)
class SubtitleFiles:
    """The files of one run: that of the speech, and one of each language."""

    folder: Path
    title: str
    formats: tuple[str, ...]
    rules: CueRules
    overwrite: bool
    _open: dict[str, list[_GrowingFile]] = field(default_factory=dict[str, list[_GrowingFile]])
    _paths: list[Path] = field(default_factory=list[Path])
    _spoken: str = ""
    """The language that the file of the speech is named by, once that is known."""

    @contextlib.contextmanager
    def opened(self, spoken: str | None, targets: Iterable[str]) -> Generator[None]:
        """The files, empty, for the length of the block; nobody else writes to them.

        Where the language is not known, that of the speech comes with the first text that is in
        none of the targets: such text is in the file of its language, as its translation. Those
        that have none are removed where the block fails. Raises OutputError.
        """
        with claimed(self.folder, self.title):
            try:
                languages = [*([spoken] if spoken else []), *targets]
                names = subtitle_names(self.title, languages, self.formats)
                prepare_translations(self.folder, self.title, names, overwrite=self.overwrite)
                for language in languages:
                    self._begin(language)
                self._spoken = spoken or ""
                yield
            except VoxrouteError:
                self._remove_empty()
                raise
            finally:
                for files in self._open.values():
                    for file in files:
                        file.close()
                if self._paths:
                    keep_own_files(self.folder, self.title, self._paths)

    @property
    def paths(self) -> list[Path]:
        """Those that were written."""
        return self._paths

    def utterance(self, utterance: asr_pb2.Utterance) -> None:
        """Adds what was said. Raises OutputError."""
        segments = [segment(one, number) for number, one in enumerate(utterance.segments)]
        cues = source_cues(segments, self.rules)
        if cues and not self._spoken and utterance.language not in self._open:
            self._spoken = utterance.language or UNKNOWN_LANGUAGE
            names = subtitle_names(self.title, [self._spoken], self.formats)
            prepare_translations(self.folder, self.title, names, overwrite=self.overwrite)
            self._begin(self._spoken)
        self._add(self._spoken, cues)

    def translated(
        self, language: str, sentence: live_pb2.Sentence, text: TranslatedSegment
    ) -> None:
        """Adds a sentence in another language. Raises OutputError."""
        said = Segment(
            id=text.segment_id,
            start_s=seconds(sentence.start),
            end_s=seconds(sentence.end),
            text=sentence.text,
            language=sentence.language,
        )
        self._add(language, translated_cues([said], Translation(items=[text]), self.rules))

    def _begin(self, language: str) -> None:
        for kind in self.formats:
            path = self.folder / subtitle_name(self.title, language, kind)
            self._open.setdefault(language, []).append(_GrowingFile(path, kind, self.rules))
            self._paths.append(path)

    def _remove_empty(self) -> None:
        for files in self._open.values():
            for file in files:
                if not file.n_cues:
                    file.path.unlink(missing_ok=True)
                    self._paths.remove(file.path)

    def _add(self, language: str, cues: Iterable[Cue]) -> None:
        for cue in cues:
            for file in self._open.get(language, ()):
                file.add(cue)
