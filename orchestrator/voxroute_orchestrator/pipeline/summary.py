"""What a job's outcome is told in."""

from collections import Counter
from collections.abc import Sequence

from voxroute_orchestrator.glossary import tally
from voxroute_orchestrator.reporter import clock
from voxroute_orchestrator.subtitles.results import ResultForm
from voxroute_orchestrator.transcript import Transcript, Untranscribed

_MOST_PLACES = 5  # named in a line of the summary


def transcript_summary(transcript: Transcript, form: ResultForm) -> list[str]:
    """What was done, and everything that a person should look at."""
    stats = transcript.recognition.run.stats
    first = (
        f"{transcript.media.title}: {len(transcript.segments)} segments"
        f" ({transcript.language or 'language unknown'}), {stats.speech_s:.0f} s of speech in"
        f" {stats.audio_s:.0f} s ({max(0.0, stats.audio_s - stats.speech_s):.0f} s without speech"
        f" were left out), {transcript.wall_s:.0f} s of work"
    )
    lines = [first]
    track = transcript.media.audio_track
    if track and track.split(",")[0] != "track 1 of 1":
        lines.append(f"  audio: {track} (--audio-stream chooses)")
    doubtful = [segment.flags for segment in transcript.segments if segment.flags]
    if doubtful:
        counts = Counter(flag for flags in doubtful for flag in flags)
        named = ", ".join(
            f"{count} {flag.lower().replace('_', ' ')}" for flag, count in counts.most_common()
        )
        where = "left out of the subtitles" if form.drop_flagged else "flagged in the transcript"
        lines.append(f"  {len(doubtful)} segments are doubtful ({named}), {where}")
    if transcript.untranscribed:
        lines.append(f"  {_untranscribed(transcript.untranscribed)}")
    speakers = {segment.speaker for segment in transcript.segments if segment.speaker}
    if speakers:
        lines.append(f"  {len(speakers)} speakers")
    for target, translation in transcript.translations.items():
        lines += translation_summary(target, [item.status for item in translation.items])
        lines += tally(translation.items).lines(target)
    return lines


def _untranscribed(stretches: Sequence[Untranscribed]) -> str:
    """AsrClient without text, and the longest stretches of it."""
    total_s = sum(one.end_s - one.start_s for one in stretches)
    longest = sorted(stretches, key=lambda one: one.start_s - one.end_s)[:_MOST_PLACES]
    places = ", ".join(
        f"{clock(one.start_s)}-{clock(one.end_s)}"
        for one in sorted(longest, key=lambda one: one.start_s)
    )
    more = len(stretches) - len(longest)
    rest = f" and {more} more places, all in the transcript" if more else ""
    return f"{total_s:.0f} s of speech without text: {places}{rest}"


def translation_summary(target: str, statuses: list[str]) -> list[str]:
    """How the cues of one target came out."""
    lines = [f"{target}: {len(statuses)} cues translated"]
    sentences = {
        "FAILED": "could not be translated; the subtitles show them as [untranslated: ...]",
        "SUSPECT": "are doubtful; the transcript says why",
        "TRUNCATED": "were too long for the model and are cut off",
        "PASSTHROUGH": "had nothing to translate",
    }
    for status, sentence in sentences.items():
        count = statuses.count(status)
        if count:
            lines.append(f"  {target}: {count} {sentence}")
    return lines
