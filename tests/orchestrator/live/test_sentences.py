"""Committed text cut into sentences: whole ones at once, the rest with its utterance."""

from voxroute.asr.v1 import asr_pb2
from voxroute_orchestrator.client.messages import duration, seconds
from voxroute_orchestrator.live.sentences import SentenceCutter

Reply = asr_pb2.TranscribeLiveResponse


def _committed(text: str, start_s: float, utterance: int = 1) -> Reply:
    """Words of a second each."""
    words = [
        asr_pb2.Word(text=f" {word}", start=duration(start_s + n), end=duration(start_s + n + 1))
        for n, word in enumerate(text.split())
    ]
    joined = "".join(word.text for word in words)
    return Reply(committed=asr_pb2.Committed(utterance=utterance, text=joined, words=words))


def _utterance(number: int, language: str = "", *texts: str) -> Reply:
    segments = [
        asr_pb2.Segment(text=text, start=duration(n), end=duration(n + 1))
        for n, text in enumerate(texts)
    ]
    closed = asr_pb2.Utterance(utterance=number, language=language, segments=segments)
    return Reply(utterance=closed)


def _told(cutter: SentenceCutter, *replies: Reply) -> list[tuple[int, int, str]]:
    found = [sentence for reply in replies for sentence in cutter.take(reply)]
    return [(one.utterance, one.sentence, one.text) for one in found]


def test_a_sentence_is_told_once_its_end_is_committed() -> None:
    """With the times of its own words."""
    cutter = SentenceCutter("en")
    assert _told(cutter, _committed("I am", 0)) == []
    (first,) = cutter.take(_committed("here. And", 2))
    assert (first.text, seconds(first.start), seconds(first.end)) == ("I am here.", 0, 3)
    assert _told(cutter, _committed("you? Yes! So", 4)) == [(1, 2, "And you?"), (1, 3, "Yes!")]
    (last,) = cutter.take(_utterance(1, "en"))
    assert (last.text, last.language, seconds(last.start)) == ("So", "en", 6)


def test_words_without_their_blanks_have_their_times_too() -> None:
    """As engines tell them."""
    words = [
        asr_pb2.Word(text=text, start=duration(n), end=duration(n + 1))
        for n, text in enumerate(("I", "am.", "You"))
    ]
    committed = asr_pb2.Committed(utterance=1, text=" I am. You", words=words)
    (first,) = SentenceCutter("en").take(Reply(committed=committed))
    assert (first.text, seconds(first.start), seconds(first.end)) == ("I am.", 0, 2)


def test_speech_may_be_heard_far_ahead_of_its_text() -> None:
    """Sound that comes faster than it is spoken is cut into utterances before it is decoded."""
    started = [
        Reply(speech_started=asr_pb2.SpeechStarted(utterance=n, at=duration(10 * n)))
        for n in (1, 2, 3)
    ]
    told = _told(SentenceCutter("en"), *started, _committed("I am.", 10), _utterance(1, "en"))
    assert told == [(1, 1, "I am.")]


def test_a_number_or_an_initial_ends_no_sentence() -> None:
    """The rule is that of segments."""
    assert _told(SentenceCutter("en"), _committed("It is 3.14 of J. Smith", 0)) == []


def test_a_sentence_never_crosses_utterances() -> None:
    """Also where the one before is still decoded once more when the next begins."""
    cutter = SentenceCutter("en")
    told = _told(cutter, _committed("I was", 0), _committed("You were", 5, 2))
    told += _told(cutter, _utterance(1, "en", "I saw"), _utterance(2, "en", "You were"))
    assert told == [(1, 1, "I was"), (2, 2, "You were")]


def test_sentences_wait_for_a_language_that_is_detected() -> None:
    """Until it is told, or with the utterance."""
    cutter = SentenceCutter()
    assert _told(cutter, _committed("Sí. No.", 0)) == []
    spanish = asr_pb2.LanguageProbability(language="es", probability=0.9)
    detected = Reply(language_detected=asr_pb2.LanguageDetected(languages=[spanish]))
    assert [one.language for one in cutter.take(detected)] == ["es", "es"]
    unsure = SentenceCutter()
    assert _told(unsure, _committed("Hm.", 0)) == []
    assert [one.language for one in unsure.take(_utterance(1))] == [""]


def test_text_that_only_the_second_decoding_has_found_is_told() -> None:
    """An utterance without committed text has its segments' sentences."""
    told = _told(SentenceCutter("en"), _utterance(1, "en", "I am.", "You are."))
    assert told == [(1, 1, "I am."), (1, 2, "You are.")]


def test_what_a_broken_stream_leaves_is_told() -> None:
    """What is committed is never taken back."""
    cutter = SentenceCutter("en")
    assert _told(cutter, _committed("I was", 0)) == []
    assert [one.text for one in cutter.rest()] == ["I was"]
    assert list(cutter.rest()) == []
