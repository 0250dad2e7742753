"""Doubtful text: pure rules, and what the service does about it over a real server."""

from dataclasses import replace

import grpc
import numpy as np
import pytest

from tests.serving.asr.test_asr import Replies, config, messages, segments, serving, violations
from tests.serving.recordings import s16le, silence, speech, tone
from voxroute.asr.v1 import asr_pb2
from voxroute_serving.asr.engine import DecodingOptions, Feature, WindowResult, WindowSegment, Word
from voxroute_serving.asr.text.doubt import (
    Doubt,
    Judged,
    Thresholds,
    among,
    better,
    doubts,
    doubts_of_words,
    is_often_invented,
    is_punctuation,
    normalised,
    sounds_like_another,
    sparse,
    warrants_another,
)
from voxroute_serving.domain import IgnoredOption
from voxroute_serving.testing.fake_engine import FakeEngine

LIMITS = Thresholds.of(DecodingOptions("en"))
TALK = ((0.0, 2.0),)


def _segment(text: str, **figures: float) -> WindowSegment:
    return WindowSegment(0.0, 2.0, text, **figures)  # type: ignore[arg-type]


def _said(text: str, confidence: float, **figures: float) -> WindowSegment:
    """A segment of one word of that mean probability."""
    word = Word(text, 0.0, 2.0, confidence)
    return replace(_segment(text, **figures), attended=(word,))


@pytest.mark.parametrize(
    ("segment", "speech", "expected"),
    [
        (_segment("Where is the key?", avg_log_prob=-0.2), TALK, ()),
        (_segment("Where is the key?", avg_log_prob=-1.2), TALK, (Doubt.LOW_CONFIDENCE,)),
        (_segment("Yes.", no_speech_prob=0.9, avg_log_prob=-0.1), TALK, ()),
        (
            _segment("Yes.", no_speech_prob=0.9, avg_log_prob=-1.5),
            TALK,
            (Doubt.LOW_CONFIDENCE, Doubt.NO_SPEECH),
        ),
        (_segment("No, no, no!", avg_log_prob=-0.1), TALK, ()),
        (_segment("I know. " * 4, avg_log_prob=-0.1), TALK, (Doubt.REPETITION,)),
        (_segment("x", compression_ratio=3.0), TALK, (Doubt.REPETITION,)),
        (_segment("Thank you.", avg_log_prob=-0.1, no_speech_prob=0.1), TALK, ()),
        (_segment("Thank you.", avg_log_prob=-0.1), ((0.0, 0.5),), (Doubt.HALLUCINATION,)),
        (_segment("THANKS FOR WATCHING!", avg_log_prob=-0.8), TALK, (Doubt.HALLUCINATION,)),
        (_segment("धन्यवाद।", no_speech_prob=0.4), TALK, (Doubt.HALLUCINATION,)),
        (_segment("Thank you for the key.", avg_log_prob=-0.8), (), ()),
    ],
)
def test_a_text_is_doubted_for_what_speaks_against_it(
    segment: WindowSegment, speech: tuple[tuple[float, float], ...], expected: tuple[Doubt, ...]
) -> None:
    """An invented caption only where the audio does not support it; people do say thank you."""
    assert doubts([segment], speech, LIMITS) == (frozenset(expected),)


@pytest.mark.parametrize(
    ("segment", "expected"),
    [
        (_said("1 2", 0.35, avg_log_prob=-0.2), {Doubt.LOW_CONFIDENCE}),
        (_said("Hello.", 0.6, avg_log_prob=-0.2), set[Doubt]()),
        (_said("Yes.", 0.9, avg_log_prob=-0.8, no_speech_prob=0.9), set[Doubt]()),
        (_said("Live.", 0.6, avg_log_prob=-0.8, no_speech_prob=0.8), {Doubt.NO_SPEECH}),
        (_segment("Live.", avg_log_prob=-0.8, no_speech_prob=0.8), set[Doubt]()),
    ],
)
def test_a_text_is_doubted_for_its_own_words(segment: WindowSegment, expected: set[Doubt]) -> None:
    """Where the window is likely on the whole, and the engine knows how likely its words are."""
    assert doubts_of_words(segment, LIMITS) == expected
    assert doubts([segment], TALK, LIMITS) == (frozenset(),)


@pytest.mark.parametrize(
    ("texts", "looping"),
    [
        (["give me the key " * 3], {0}),
        (["give me the key " * 2], set[int]()),
        (["no, no, no, no!"], set[int]()),
        (["no " * 8], {0}),
        (["Where?", "I know.", "I know,", "I know!", "Good."], {1, 2, 3}),
        (["I know.", "Where?", "I know.", "There.", "I know."], set[int]()),
        (["चाबी मेज़ पर है। " * 3], {0}),
        (["谢谢观看谢谢观看谢谢观看"], {0}),
        (["はははは"], set[int]()),
        ([""], set[int]()),
    ],
)
def test_a_phrase_said_over_and_over_is_a_loop(texts: list[str], looping: set[int]) -> None:
    """Three times within a segment or across a window's; a single word is repeated by people."""
    found = doubts([_segment(text) for text in texts], TALK, LIMITS)
    assert {i for i, one in enumerate(found) if Doubt.REPETITION in one} == looping


@pytest.mark.parametrize(
    ("text", "invented"),
    [
        ("Thanks for watching!", True),
        ("Thank you. Thank you. Bye.", True),
        ("Subtitles by the Amara.org community", True),
        ("देखने के लिए धन्यवाद।", True),
        ("ご視聴ありがとうございました。", True),
        ("Untertitel im Auftrag des ZDF für funk, 2017", True),
        ("Thank you for the key.", False),
        ("Subtitles by hand take a whole day for an hour of film, so nobody makes them.", False),
        ("♪", False),
        ("", False),
    ],
)
def test_invented_texts_are_known_as_wholes(text: str, invented: bool) -> None:  # noqa: FBT001 - a table
    """A sentence that merely begins or ends like one is somebody's."""
    assert is_often_invented(text) is invented
    assert normalised(" «Thank  you!» ") == "thank you"


@pytest.mark.parametrize(
    ("texts", "short"),
    [
        (["The child"], {3}),
        (["The child almost hurt the small dog."], set[int]()),
        (["1, 2, 3, 4, 5, 6, 7, 8, 9, 10."], set[int]()),
        (["No."], {3}),
        (["..."], {3}),
    ],
)
def test_a_text_far_too_short_for_its_voice_is_found(texts: list[str], short: set[int]) -> None:
    """By what the window's other segments say in a second; digits are said as words."""
    said = ["Sunday is the best part of the week.", "Drop the two when you add the figures.",
            "He was not an ill-disposed young man."]  # fmt: skip
    segments = [
        WindowSegment(3.0 * at, 3.0 * at + 2.5, text) for at, text in enumerate([*said, *texts])
    ]
    voice = [(one.start_s, one.end_s) for one in segments]
    assert sparse(segments, voice) == short
    assert sparse(segments, ()) == set()
    drawn_out = (WindowSegment(0.0, 9.0, "Hello, where are you?"),)
    assert sparse(drawn_out, [(2.0, 3.0)]) == set()  # most of its time is a pause
    assert sparse(drawn_out, [(0.0, 9.0)]) == {0}


def test_marks_alone_are_no_text() -> None:
    """A note of music says something."""
    assert all(map(is_punctuation, ("", "...", " - ", "।", "?!")))
    assert not any(map(is_punctuation, ("♪", "5", "no.", "क")))


def _judged(*segments: WindowSegment) -> Judged:
    return Judged(WindowResult(segments), doubts(segments, TALK, LIMITS))


@pytest.mark.parametrize(
    ("segment", "again", "again_where_unsure"),
    [
        (_segment("Where is the key?", avg_log_prob=-0.2), False, False),
        (_segment("Where is the key?", avg_log_prob=-1.2), False, True),
        (_segment("Thank you.", avg_log_prob=-0.8), True, True),
        (_segment("I know. " * 3, avg_log_prob=-0.2), True, True),
        (_segment("x", compression_ratio=3.0), True, True),
        (_segment("Yes.", no_speech_prob=0.9), False, False),
    ],
)
def test_loops_and_inventions_are_worth_another_temperature(
    segment: WindowSegment,
    again: bool,  # noqa: FBT001 - a table
    again_where_unsure: bool,  # noqa: FBT001 - a table
) -> None:
    """Merely unlikely text is not made likelier by chance, unless the request asks for it."""
    judged = _judged(_segment("Good.", avg_log_prob=-0.1), segment)
    assert warrants_another(judged, unsure=False) is again
    assert warrants_another(judged, unsure=True) is again_where_unsure
    assert not warrants_another(_judged(), unsure=True)


def test_the_better_decoding_has_fewer_doubts_then_likelier_words_and_text() -> None:
    """A decoding without text never takes the place of one with text."""
    doubtful = _judged(_segment("Thank you.", avg_log_prob=-0.8))
    sure = _judged(_segment("Give it to me.", avg_log_prob=-0.9))
    surer = _judged(_segment("Give it to him.", avg_log_prob=-0.4))
    assert better(doubtful, sure) is sure
    assert better(surer, sure) is surer
    assert better(doubtful, _judged()) is doubtful
    assert better(_judged(), doubtful) is doubtful


def test_what_is_said_in_another_script_is_better_than_a_loop() -> None:
    """And worse than the same in its own."""

    def hindi(text: str, log_prob: float) -> Judged:
        found = (_segment(text, avg_log_prob=log_prob),)
        return Judged(WindowResult(found, cut_off=True), doubts(found, TALK, LIMITS, "hi"))

    latin = hindi("Meera ki chaabi mez par padi hai", -0.8)
    assert better(hindi("पहले " * 9, -0.2), latin) is latin
    assert better(latin, own := hindi("मीरा की चाबी मेज़ पर पड़ी है", -0.9)) is own


def test_languages_are_weighed_against_each_other() -> None:
    """Allowed ones share what the others got; only a clear other language is a switch."""
    assert among({"hi": 0.3, "en": 0.1, "ur": 0.6}, ("hi", "en")) == pytest.approx(
        {"hi": 0.75, "en": 0.25}
    )
    assert among({}, ("hi", "en")) == {"hi": 0.5, "en": 0.5}
    assert sounds_like_another({"hi": 0.1, "en": 0.9}, "hi")
    assert not sounds_like_another({"hi": 0.4, "en": 0.6}, "hi")
    assert not sounds_like_another({"hi": 0.9, "en": 0.1}, "hi")


async def test_without_voice_activity_an_invented_text_is_held_against_the_voice() -> None:
    """vad.disabled takes all audio for speech; the flag looks for a voice all the same."""
    engine = FakeEngine()
    engine.segments = lambda window: (
        WindowSegment(0.0, len(window) / 16_000, "Thank you.", avg_log_prob=-0.1),
    )
    async with serving(engine) as service:
        music = segments(await service.transcribe(messages(s16le(tone(3.0)))))
        voice = segments(await service.transcribe(messages(s16le(speech(3.0)))))
    assert [list(one.flags) for one in music] == [[asr_pb2.SEGMENT_FLAG_HALLUCINATION]]
    assert [list(one.flags) for one in voice] == [[]]


async def test_a_doubtful_window_of_another_language_says_so() -> None:
    """What sounds like English and was transcribed as Hindi; only doubtful windows are asked."""
    engine = FakeEngine()
    engine.segments = lambda window: (
        WindowSegment(0.0, len(window) / 16_000, "क्या", avg_log_prob=-1.4),
    )
    async with serving(engine) as service:
        replies = await service.transcribe(messages(s16le(tone(3.0, 880.0))))
    (segment,) = segments(replies)
    assert asr_pb2.SEGMENT_FLAG_LANGUAGE_SWITCH in segment.flags


def _mixed() -> bytes:
    """Hindi, which is a low tone, and English, a high one, in two windows."""
    parts = [tone(27.0, 440.0), silence(2.0), tone(20.0, 880.0)]
    return s16le(np.concatenate(parts))


async def test_each_window_is_transcribed_in_the_likeliest_of_the_allowed_languages() -> None:
    """Segments name theirs; the engine is asked for it; `accepted` repeats what was allowed."""
    asked = config("", allowed_languages=["hi-IN", "en"])
    async with serving() as service:
        replies = await service.transcribe(messages(_mixed(), asked))
        languages = [batch.options.language for batch in service.engine.batches]
    assert [segment.language for segment in segments(replies)] == ["hi", "en"]
    assert set(languages) == {"hi", "en"}
    assert list(replies[0].accepted.options.config.allowed_languages) == ["hi", "en"]


async def test_one_allowed_language_is_the_language() -> None:
    """Nothing is detected."""
    async with serving() as service:
        asked = config("", allowed_languages=["en"])
        replies = await service.transcribe(messages(s16le(tone(3.0)), asked))
    assert [segment.language for segment in segments(replies)] == ["en"]
    assert not any(reply.HasField("language_detected") for reply in replies)
    assert replies[0].accepted.options.config.language == "en"
    assert list(replies[0].accepted.options.config.allowed_languages) == ["en"]


async def test_the_language_is_told_once_and_is_one_of_the_allowed() -> None:
    """That of the first windows; what the model hears beyond them does not count."""
    engine = FakeEngine(languages=("hi", "ta", "en"))
    async with serving(engine) as service:
        asked = config("", allowed_languages=["ta", "hi"])
        replies = await service.transcribe(messages(_mixed(), asked))
    (detected,) = [r.language_detected for r in replies if r.HasField("language_detected")]
    assert [one.language for one in detected.languages] == ["hi", "ta"]
    assert sum(one.probability for one in detected.languages) == pytest.approx(1.0)


async def test_what_one_of_the_languages_cannot_have_is_told_at_once() -> None:
    """An option that is ignored for any of them is listed in `accepted`."""
    async with serving(FakeEngine(ignored=(IgnoredOption("decoding.beam_size", "no"),))) as service:
        asked = config("", allowed_languages=["hi", "en"])
        replies = await service.transcribe(messages(s16le(tone(3.0)), asked))
    assert [one.field for one in replies[0].accepted.options.ignored] == ["decoding.beam_size"]


async def test_an_engine_that_cannot_tell_languages_takes_one() -> None:
    """INVALID_ARGUMENT names the field."""
    engine = FakeEngine(features=frozenset(Feature) - {Feature.LANGUAGE_DETECTION})
    async with serving(engine) as service:
        asked = config("", allowed_languages=["hi", "en"])
        with pytest.raises(grpc.RpcError, match="cannot detect") as caught:
            await service.answers("Transcribe", messages(s16le(tone(1.0)), asked))
        assert violations(caught.value) == ["allowed_languages"]
        one = config("", allowed_languages=["hi"])
        assert segments(await service.transcribe(messages(s16le(tone(1.0)), one)))


@pytest.mark.parametrize(
    ("language", "allowed", "words"),
    [("hi", ["hi", "en"], "either which language"), ("", ["hi", "ta"], "has no 'ta'")],
)
async def test_languages_that_cannot_be_are_refused(
    language: str, allowed: list[str], words: str
) -> None:
    """Both fields at once, or one that the model does not know."""
    async with serving() as service:
        asked = config(language, allowed_languages=allowed)
        with pytest.raises(grpc.RpcError, match=words) as caught:
            await service.transcribe(messages(s16le(tone(1.0)), asked))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT  # type: ignore[union-attr]


@pytest.mark.parametrize("allowed", [(), ("hi", "en")])
async def test_a_call_goes_on_after_any_window_of_an_earlier_one(allowed: tuple[str, ...]) -> None:
    """The same segments, times and languages, whichever window the earlier call ended with."""
    pitches = (440.0, 880.0, 440.0) * 3
    data = s16le(np.concatenate([part for hz in pitches for part in (tone(9.0, hz), silence(1.0))]))

    def ask() -> asr_pb2.TranscribeConfig:
        return config("" if allowed else "hi", allowed_languages=allowed)

    def parts(replies: Replies) -> tuple[list[tuple[str, int, int, str]], list[float]]:
        found = [
            (s.text, s.start.ToMilliseconds(), s.end.ToMilliseconds(), s.language)
            for s in segments(replies)
        ]
        reached = [
            reply.progress.resume_from.ToMicroseconds() / 1e6
            for reply in replies
            if reply.HasField("progress") and reply.progress.HasField("resume_from")
        ]
        return found, reached

    async with serving() as service:
        whole, reached = parts(await service.transcribe(messages(data, ask())))
        assert len(reached) >= 3
        n_windows = sum(len(batch.n_samples) for batch in service.engine.batches)
        for n_done, reached_s in enumerate(reached, start=1):
            service.engine.batches.clear()
            asked = ask()
            asked.resume_from.FromMicroseconds(round(reached_s * 1e6))
            rest, _ = parts(await service.transcribe(messages(data, asked)))
            assert rest == [one for one in whole if one[1] >= reached_s * 1000 - 1]
            decoded = sum(len(batch.n_samples) for batch in service.engine.batches)
            assert decoded == n_windows - n_done
