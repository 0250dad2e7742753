"""The files of a job: their names, and writing them."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from voxroute_orchestrator.files import prepare, write_atomic
from voxroute_orchestrator.names import fitted, shown
from voxroute_orchestrator.reporter import Reporter
from voxroute_orchestrator.subtitles.cues import (
    Cue,
    GrowingCues,
    Track,
    source_cues,
    translated_cues,
)
from voxroute_orchestrator.subtitles.formats import DEFAULT_FORMATS, FORMATS, GENERATOR, to_srt
from voxroute_orchestrator.subtitles.linebreaks import flat
from voxroute_orchestrator.subtitles.rules import DEFAULT_RULES, CueRules
from voxroute_orchestrator.transcript import Media, Transcript

UNKNOWN_LANGUAGE = "und"  # BCP-47 for a language that is not known
PLAIN = "txt"
"""The kind of a file that has the text alone."""
_MARKED_WITHIN = 1000  # characters from the beginning of a file
_SAME_LENGTH_S = 1.0  # containers of one recording tell lengths that differ by less


@dataclass(frozen=True, slots=True)
class ResultForm:
    """What subtitles are to be like."""

    formats: tuple[str, ...] = DEFAULT_FORMATS
    rules: CueRules = DEFAULT_RULES
    speaker_prefix: bool = False
    """Whether SRT, which knows no speakers, names them in the text."""
    drop_flagged: bool = False
    """Whether subtitles leave doubtful segments out; the transcript has them all the same."""


DEFAULT_FORM = ResultForm()


def subtitle_names(
    title: str, languages: Sequence[str], formats: Sequence[str] = DEFAULT_FORMATS
) -> list[str]:
    """The names of complete subtitles."""
    return [subtitle_name(title, language, kind) for language in languages for kind in formats]


def subtitle_name(title: str, language: str, kind: str) -> str:
    """The name of subtitles of a language and a kind."""
    return fitted(title, f".{language}.{kind}")


def result_names(
    title: str, languages: Sequence[str], formats: Sequence[str] = DEFAULT_FORMATS
) -> list[str]:
    """The names of the files of a complete job, but for a copy of the media."""
    return [*subtitle_names(title, languages, formats), transcript_name(title)]


def transcript_name(title: str) -> str:
    """The name of a complete job's transcript; also the mark that a folder's results are ours."""
    return fitted(title, ".transcript.json")


def report_name(title: str) -> str:
    """The name of the report of the run that made the results."""
    return fitted(title, ".run.json")


def partial_name(title: str) -> str:
    """The name of the transcript of a job that is not complete."""
    return fitted(title, ".transcript.partial.json")


def prepare_results(
    folder: Path, names: Sequence[str], *, overwrite: bool, mark: str | None = None
) -> None:
    """Sees that files of the names can be written and that no person's file is lost.

    As `files.prepare`, but `mark` vouches for the default formats and the transcript only: an
    earlier run always wrote these. Other files have to say themselves that they are ours; a copy
    of the media cannot, so it is replaced with `overwrite` alone. Raises OutputError.
    """
    usual = {f".{kind}" for kind in DEFAULT_FORMATS}
    vouched = [name for name in names if Path(name).suffix in usual or name == mark]
    prepare(folder, vouched, overwrite=overwrite, mark=mark)
    others = [name for name in names if name not in vouched and not _is_ours(folder / name)]
    prepare(folder, others, overwrite=overwrite)


def prepare_translations(
    folder: Path, title: str, names: Sequence[str], *, overwrite: bool
) -> None:
    """As `prepare_results`; what `keep_own_files` has noted may be replaced. Raises OutputError."""
    own = _own_files(folder, title)
    others = [name for name in names if own.get(name, "") != _digest(folder / name)]
    prepare_results(folder, others, overwrite=overwrite)


def keep_own_files(folder: Path, title: str, paths: Sequence[Path]) -> None:
    """Notes what the files are now: a later run replaces them unless somebody has changed them.

    Subtitles have no place for a mark of their own. Raises OutputError.
    """
    own = _own_files(folder, title) | {path.name: _digest(path) for path in paths}
    text = json.dumps(own, indent=2) + "\n"
    write_atomic(folder / _own_files_name(title), text)


def _own_files_name(title: str) -> str:
    return fitted(title, ".voxroute-files", beginning=".")


def _own_files(folder: Path, title: str) -> dict[str, str]:
    """The digests that were noted, by the files' names."""
    try:
        found: object = json.loads((folder / _own_files_name(title)).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return cast("dict[str, str]", found) if isinstance(found, dict) else {}


def _digest(path: Path) -> str:
    """The SHA-256 of a file, hexadecimal; "-" where there is none that can be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return "-"


def are_of_another(folder: Path, media: Media) -> bool:
    """Whether a complete job's results are there that are of another recording of the same title.

    They are where that one has another length, or is still there as another file.
    """
    try:
        text = (folder / transcript_name(media.stem)).read_text(encoding="utf-8")
        before = Media.model_validate(json.loads(text)["media"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    lengths = before.duration_s, media.duration_s
    if None not in lengths and abs((lengths[0] or 0) - (lengths[1] or 0)) > _SAME_LENGTH_S:
        return True
    try:
        return not Path(before.path).samefile(media.file or media.path)
    except (OSError, ValueError):  # it was moved here, or is known by another name
        return False


def tell_shortened(title: str, names: Sequence[str], told: Reporter) -> None:
    """Tells which names of results do not begin with the whole title."""
    short = [name for name in names if not name.startswith(f"{title}.")]
    if short:
        told.warn(
            f"the name is too long for {len(short)} of its results, which get shorter ones:"
            f" {', '.join(map(shown, short))}"
        )


def _is_ours(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as file:
            return GENERATOR in file.read(_MARKED_WITHIN)
    except (OSError, ValueError):
        return False


@dataclass(frozen=True, slots=True)
class _Subtitles:
    language: str
    cues: list[Cue]
    named: list[Cue]
    """With speakers in the text, where that is asked for."""
    complete: bool

    def text(self, kind: str) -> str:
        """The file of a kind."""
        return FORMATS[kind](self.named if kind == "srt" else self.cues, self.language)


def _subtitles(
    transcript: Transcript, form: ResultForm, growing: GrowingCues | None = None
) -> list[_Subtitles]:
    """The subtitles of every language, that of the speech first."""
    whole, rules = transcript.recognition.complete, form.rules
    segments = [s for s in transcript.segments if not (form.drop_flagged and s.flags)]
    source = growing.of(segments) if growing is not None else source_cues(segments, rules)
    named = source
    if form.speaker_prefix:
        named = source_cues(segments, rules, speaker_prefix=True)
    found = [_Subtitles(transcript.language or UNKNOWN_LANGUAGE, source, named, whole)]
    for target, translation in transcript.translations.items():
        cues = translated_cues(segments, translation, rules)
        named = cues
        if form.speaker_prefix:
            named = translated_cues(segments, translation, rules, speaker_prefix=True)
        complete = whole and translation.error is None
        found.append(_Subtitles(target, cues, named, complete))
    return found


def write_results(
    transcript: Transcript,
    folder: Path,
    wrote: Callable[[Path], None],
    form: ResultForm = DEFAULT_FORM,
    growing: GrowingCues | None = None,
) -> None:
    """Writes subtitles and transcript, and tells each file.

    `growing` are the cues of the speech by the rules of the form, as far as they are laid out.

    What is not complete is written as *.partial.srt and *.transcript.partial.json; the partial
    files of an earlier run go when the complete ones are there. Raises OutputError.
    """
    title = transcript.media.stem
    for subtitles in _subtitles(transcript, form, growing):
        partial = folder / subtitle_name(title, subtitles.language, "partial.srt")
        if not subtitles.complete:
            if subtitles.cues:
                write_atomic(partial, to_srt(subtitles.named))
                wrote(partial)
            continue
        for kind in form.formats:
            path = folder / subtitle_name(title, subtitles.language, kind)
            write_atomic(path, subtitles.text(kind))
            wrote(path)
        partial.unlink(missing_ok=True)
    partial = folder / partial_name(title)
    path = folder / transcript_name(title) if transcript.complete else partial
    write_atomic(path, transcript.to_json())
    wrote(path)
    report = folder / report_name(title)
    write_atomic(report, transcript.report().to_json())
    wrote(report)
    if transcript.complete:
        partial.unlink(missing_ok=True)


def subtitle_text(
    transcript: Transcript, language: str, kind: str, form: ResultForm = DEFAULT_FORM
) -> str:
    """What `write_results` writes of one language into a file of a kind; PLAIN is one, too.

    Raises KeyError for a language that the transcript does not have.
    """
    if kind == PLAIN:
        return _plain(transcript, language, form)
    return {one.language: one for one in _subtitles(transcript, form)}[language].text(kind)


def _plain(transcript: Transcript, language: str, form: ResultForm) -> str:
    """A line for each segment; a speaker that is new is named before it."""
    texts = {segment.id: segment.text for segment in transcript.segments}
    if language != (transcript.language or UNKNOWN_LANGUAGE):
        items = transcript.translations[language].items
        texts = {
            item.segment_id: f"[untranslated: {flat(texts[item.segment_id])}]"
            if item.status == "FAILED"
            else item.text
            for item in items
            if item.segment_id in texts
        }
    lines: list[str] = []
    speaker = ""
    for segment in transcript.segments:
        text = flat(texts.get(segment.id, ""))
        if not text or (form.drop_flagged and segment.flags):
            continue
        new = segment.speaker and segment.speaker != speaker
        lines.append(f"{flat(segment.speaker)}: {text}\n" if new else f"{text}\n")
        speaker = segment.speaker
    return "".join(lines)


def tracks_of(transcript: Transcript, form: ResultForm = DEFAULT_FORM) -> list[Track]:
    """The complete subtitles to be put into a copy of the media, that of the speech first."""
    return [
        Track(subtitles.language, subtitles.cues)
        for subtitles in _subtitles(transcript, form)
        if subtitles.complete and subtitles.cues
    ]
