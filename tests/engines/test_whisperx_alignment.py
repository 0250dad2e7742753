"""Word times: whisperx.align on the bundled Wav2Vec2 model."""

# pyright: basic

import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from voxroute_asr_whisperx.align import MAX_ALIGNERS, Aligners
from voxroute_serving.audio.samples import SAMPLE_RATE
from voxroute_serving.errors import ModelUnavailableError, UnsupportedError

EXAMPLES = Path(__file__).parents[2] / "examples"


def aligners_of(cache: Path, **configured: Path) -> Aligners:
    """Aligners on the CPU without network."""
    return Aligners(
        device="cpu",
        configured={language: str(path) for language, path in configured.items()},
        downloads=False,
        offline=True,
        token=None,
        cache_dir=cache,
    )


@pytest.fixture
def aligners(bundled_aligner: Path, tmp_path: Path) -> Aligners:
    """The bundled aligner for Hindi and English."""
    return aligners_of(tmp_path, hi=bundled_aligner, en=bundled_aligner)


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("hi", "मैं  कल\nघर जाऊँगा।"),
        ("hi", "कमरा 42, ठीक है? हाँ।"),
        ("en", "It's 3.14 -- really. Go!"),
        ("en", "♪ ♪"),
    ],
)
def test_words_are_those_of_the_text_in_order_and_in_time(
    aligners: Aligners, noise: list[np.ndarray], language: str, text: str
) -> None:
    """Digits, marks and letters the model lacks change no word and leave none without a time."""
    words = aligners.words(noise[0], text, language, start_s=0.5, end_s=2.5)
    assert [word.text for word in words] == text.split()
    floor_s = 0.5
    for word in words:
        assert floor_s <= word.start_s <= word.end_s <= 2.5
        assert word.confidence is None or 0 <= word.confidence <= 1
        floor_s = word.start_s


@pytest.mark.parametrize(
    ("media", "language"), [("lost-key.mp4", "hi"), ("evening.wav", "en")], ids=["hi", "en"]
)
def test_words_stand_where_they_are_said(aligners: Aligners, media: str, language: str) -> None:
    """The first word of a sentence begins with its cue, also where 0.3 s of pause come before."""
    import pysubs2  # noqa: PLC0415 - as the other fixtures of the example
    from faster_whisper import decode_audio  # noqa: PLC0415 - takes seconds

    clip = EXAMPLES / media
    samples = np.asarray(decode_audio(str(clip), sampling_rate=SAMPLE_RATE))
    ends: list[float] = []
    for cue in pysubs2.load(str(clip.with_suffix(f".{language}.srt"))):
        start_s, end_s, text = cue.start / 1000, cue.end / 1000, cue.plaintext.replace("\n", " ")
        words = aligners.words(
            samples, text, language, start_s=max(0.0, start_s - 0.3), end_s=end_s + 0.3
        )
        assert [word.text for word in words] == text.split()
        assert words[0].start_s == pytest.approx(start_s, abs=0.1)
        ends.append(words[-1].end_s - end_s)
    assert np.mean(np.abs(ends) < 0.25) >= 0.9


def test_a_text_too_long_for_its_audio_has_no_words(
    aligners: Aligners, noise: list[np.ndarray]
) -> None:
    """More letters than frames cannot be aligned: no words, rather than invented times."""
    assert aligners.words(noise[0], "शब्द " * 200, "hi", start_s=0.0, end_s=0.5) == ()


@pytest.mark.parametrize(("text", "end_s"), [("", 2.0), ("   ", 2.0), ("हाँ", 0.01)])
def test_nothing_to_align_gives_no_words(
    aligners: Aligners, noise: list[np.ndarray], text: str, end_s: float
) -> None:
    """An empty text, or audio shorter than the model's first frame, is no failure."""
    assert aligners.words(noise[0], text, "hi", start_s=0.0, end_s=end_s) == ()


def test_aligning_opens_no_connection(
    aligners: Aligners, noise: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whisperx would have NLTK download a sentence splitter, transformers ask a hub."""

    def refuse(*_: object) -> None:
        pytest.fail("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert aligners.words(noise[0], "ठीक है।", "hi", start_s=0.0, end_s=3.0)


def test_a_language_without_aligner_is_unsupported(
    aligners: Aligners, noise: list[np.ndarray]
) -> None:
    """The message names the languages that there are."""
    assert aligners.languages() == ("en", "hi")
    with pytest.raises(UnsupportedError, match="'ta'; it has them for en, hi"):
        aligners.words(noise[0], "வணக்கம்", "ta", start_s=0.0, end_s=3.0)


def test_a_directory_without_aligner_says_what_it_should_hold(
    noise: list[np.ndarray], tmp_path: Path
) -> None:
    """A wrong directory ends the call with a sentence, not with a traceback."""
    (tmp_path / "config.json").write_text('{"model_type": "whisper"}')
    with pytest.raises(ModelUnavailableError, match="must be a Wav2Vec2ForCTC model"):
        aligners_of(tmp_path, hi=tmp_path).words(noise[0], "हाँ", "hi", start_s=0.0, end_s=3.0)


def test_a_model_of_two_languages_is_loaded_once(
    aligners: Aligners, noise: list[np.ndarray]
) -> None:
    """The memory holds each model once, and few of them."""
    for language, text in (("hi", "हाँ"), ("en", "yes")):
        assert aligners.words(noise[0], text, language, start_s=0.0, end_s=3.0)
    assert len(aligners._loaded) == 1 < MAX_ALIGNERS
    aligners.close()
    assert not aligners._loaded


def test_models_of_several_threads_share_the_aligners(
    aligners: Aligners, noise: list[np.ndarray]
) -> None:
    """One model is freed, and the aligners with it, while the texts of another are aligned."""

    def words(language: str) -> list[str]:
        found = aligners.words(noise[0], "go home", language, start_s=0.0, end_s=3.0)
        return [word.text for word in found]

    with ThreadPoolExecutor(3) as pool:
        found = [pool.submit(words, language) for language in ("hi", "en") * 4]
        frees = [pool.submit(aligners.close) for _ in range(4)]
        assert [one.result(120) for one in found] == [["go", "home"]] * 8
        for free in frees:
            free.result(120)
