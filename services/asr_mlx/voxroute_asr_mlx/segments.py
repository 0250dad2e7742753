"""From the tokens of a stretch of audio to segments with times. Pure; no ML library."""

from collections.abc import Sequence
from dataclasses import dataclass

TOKEN_S = 0.02  # s; one timestamp token, one position of Whisper's encoder
MIN_REST_S = 0.2  # s; a shorter rest holds no word and only invites invented text


@dataclass(frozen=True, slots=True)
class TokenSegment:
    """A segment as the model wrote it: text tokens, times in seconds from the window's start."""

    start_s: float
    end_s: float
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Split:
    """The segments of a stretch, and the second from which it must be decoded again, if any."""

    segments: tuple[TokenSegment, ...]
    rest_from_s: float | None


def split(
    tokens: Sequence[int],
    *,
    timestamp_begin: int,
    end_of_text: int,
    start_s: float,
    duration_s: float,
) -> Split:
    """The segments that the timestamp tokens of one decoded stretch mark.

    `start_s` is where the stretch begins in its window, `duration_s` how much audio it holds;
    `timestamp_begin` is the id of <|0.00|>, and text tokens are below `end_of_text`.

    The rules are those of openai-whisper's `transcribe`: a pair of timestamps ends one segment and
    begins the next; text after the last pair that has no end of its own is not finished, and the
    audio from there on is decoded again, unless so little is left that nothing would come of it.
    """
    is_time = [token >= timestamp_begin for token in tokens]
    cuts = [i for i in range(1, len(tokens)) if is_time[i - 1] and is_time[i]]
    ends_with_time = len(tokens) > 1 and is_time[-1] and not is_time[-2]

    def segment(part: Sequence[int], first_s: float, last_s: float) -> TokenSegment:
        return TokenSegment(
            start_s + first_s, start_s + last_s, tuple(t for t in part if t < end_of_text)
        )

    def second(token: int) -> float:
        return (token - timestamp_begin) * TOKEN_S

    if not cuts:
        times = [second(token) for token in tokens if token >= timestamp_begin]
        last_s = times[-1] if times and times[-1] > 0 else duration_s
        first_s = times[0] if len(times) > 1 else 0.0
        return Split((segment(tokens, min(first_s, last_s), last_s),), None)

    if ends_with_time:
        cuts.append(len(tokens))
    segments: list[TokenSegment] = []
    begin = 0
    for cut in cuts:
        part = tokens[begin:cut]
        segments.append(segment(part, second(part[0]), second(part[-1])))
        begin = cut
    if ends_with_time:
        return Split(tuple(segments), None)

    last_s = second(tokens[begin - 1])
    if duration_s - last_s >= MIN_REST_S and last_s > 0:
        return Split(tuple(segments), start_s + last_s)
    if any(token < end_of_text for token in tokens[begin:]):
        segments.append(segment(tokens[begin:], last_s, duration_s))
    return Split(tuple(segments), None)


def within(
    start_s: float, end_s: float, *, earliest_s: float, duration_s: float
) -> tuple[float, float]:
    """The times, moved into the window and behind `earliest_s`, at least one token apart.

    The encoder sees every window padded to 30 s, so the model can place text in the padding.
    """
    latest_s = max(0.0, duration_s - TOKEN_S)
    start_s = min(max(start_s, earliest_s), latest_s)
    return start_s, max(min(end_s, duration_s), min(start_s + TOKEN_S, duration_s))
