"""The files of a job: their names, and writing them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from voxroute_orchestrator.cue_rules import DEFAULT_RULES, CueRules
from voxroute_orchestrator.cues import Cue, Track, source_cues, translated_cues
from voxroute_orchestrator.output import prepare, write_atomic
from voxroute_orchestrator.subtitles import DEFAULT_FORMATS, FORMATS, GENERATOR, to_srt
from voxroute_orchestrator.transcript import Transcript

UNKNOWN_LANGUAGE = "und"  # BCP-47 for a language that is not known
_MARKED_WITHIN = 1000  # characters from the beginning of a file


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
    return [f"{title}.{language}.{kind}" for language in languages for kind in formats]


def result_names(
    title: str, languages: Sequence[str], formats: Sequence[str] = DEFAULT_FORMATS
) -> list[str]:
    """The names of the files of a complete job, but for a copy of the media."""
    return [*subtitle_names(title, languages, formats), transcript_name(title)]


def transcript_name(title: str) -> str:
    """The name of a complete job's transcript; also the mark that a folder's results are ours."""
    return f"{title}.transcript.json"


def report_name(title: str) -> str:
    """The name of the report of the run that made the results."""
    return f"{title}.run.json"


def partial_name(title: str) -> str:
    """The name of the transcript of a job that is not complete."""
    return f"{title}.transcript.partial.json"


def prepare_results(
    folder: Path, names: Sequence[str], *, overwrite: bool, mark: str | None = None
) -> None:
    """Sees that files of the names can be written and that no person's file is lost.

    As `output.prepare`, but `mark` vouches for the default formats and the transcript only: an
    earlier run always wrote these. Other files have to say themselves that they are ours; a copy
    of the media cannot, so it is replaced with `overwrite` alone. Raises OutputError.
    """
    usual = {f".{kind}" for kind in DEFAULT_FORMATS}
    vouched = [name for name in names if Path(name).suffix in usual or name == mark]
    prepare(folder, vouched, overwrite=overwrite, mark=mark)
    others = [name for name in names if name not in vouched and not _is_ours(folder / name)]
    prepare(folder, others, overwrite=overwrite)


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


def _subtitles(transcript: Transcript, form: ResultForm) -> list[_Subtitles]:
    """The subtitles of every language, that of the speech first."""
    whole, rules = transcript.recognition.complete, form.rules
    segments = [s for s in transcript.segments if not (form.drop_flagged and s.flags)]
    source = source_cues(segments, rules)
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
) -> None:
    """Writes subtitles and transcript, and tells each file.

    What is not complete is written as *.partial.srt and *.transcript.partial.json; the partial
    files of an earlier run go when the complete ones are there. Raises OutputError.
    """
    title = transcript.media.title
    for subtitles in _subtitles(transcript, form):
        partial = folder / f"{title}.{subtitles.language}.partial.srt"
        if not subtitles.complete:
            if subtitles.cues:
                write_atomic(partial, to_srt(subtitles.named))
                wrote(partial)
            continue
        for kind in form.formats:
            path = folder / f"{title}.{subtitles.language}.{kind}"
            cues = subtitles.named if kind == "srt" else subtitles.cues
            write_atomic(path, FORMATS[kind](cues, subtitles.language))
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


def tracks_of(transcript: Transcript, form: ResultForm = DEFAULT_FORM) -> list[Track]:
    """The complete subtitles to be put into a copy of the media, that of the speech first."""
    return [
        Track(subtitles.language, subtitles.cues)
        for subtitles in _subtitles(transcript, form)
        if subtitles.complete and subtitles.cues
    ]
