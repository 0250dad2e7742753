# pyright: basic
"""What becomes of voice and of its absence: real weights, real speech, music and noise."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks import product, soundtracks
from benchmarks.films import DIALOGUE_PAUSE_S, cut_of, dialogue, samples_of, soundtrack, write_flac
from benchmarks.judging import lost_lines, reference, untold_share
from benchmarks.meters import Reading
from benchmarks.peers import Outcome
from benchmarks.product import Service
from benchmarks.recordings import HOW_TO_GET, Sentence, SpeechSet, read_set, speech_sets
from benchmarks.sounds import SOUNDS
from tests.real.conftest import real_model
from voxroute_serving.audio.samples import SAMPLE_RATE

N_DIALOGUES = 10
N_LINES = 24


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with whisper-base on the processor."""
    model = real_model("whisper-base")
    with product.service("whisperx", model, "cpu", tmp_path_factory.mktemp("vx")) as running:
        yield running


def sets_in(*languages: str) -> list[SpeechSet]:
    """The recordings of these languages; skips where there are none."""
    return speech_sets(*languages) or pytest.skip(f"models/real/speech is missing; {HOW_TO_GET}")


@pytest.fixture(scope="module")
def alone(service: Service, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the model writes for each English sentence alone, by its text."""
    folder = tmp_path_factory.mktemp("alone")
    written: dict[str, str] = {}
    for source in sets_in("en"):
        samples = samples_of(source.path)
        for sentence in source.sentences:
            path = folder / "en-alone.flac"
            write_flac(path, cut_of(samples, sentence))
            outcome = product.called(service, SpeechSet("alone", "en", path, ()))
            written[sentence.text.strip()] = " ".join(text for *_, text in outcome.segments)
    return written


@pytest.fixture
def tones(tmp_path: Path) -> SpeechSet:
    """Two "sentences", each a constant of its own value."""
    samples = np.zeros(SAMPLE_RATE * 4, np.int16)
    samples[: 2 * SAMPLE_RATE], samples[2 * SAMPLE_RATE :] = 1000, 2000
    write_flac(tmp_path / "xx-tones.flac", samples)
    (tmp_path / "xx-tones.json").write_text('[[0, 2, "one"], [2, 4, " two"]]', encoding="utf-8")
    return read_set(tmp_path / "xx-tones.json")


def test_a_dialogue_has_short_lines_in_turn_and_long_pauses(
    tones: SpeechSet, tmp_path: Path
) -> None:
    """Each line's audio at its time; the same seed says the same."""
    made = dialogue(tmp_path / "xx-talk.flac", [tones], seed=3, n_lines=6)
    again = dialogue(tmp_path / "xx-again.flac", [tones], seed=3, n_lines=6)
    assert made.sentences == again.sentences
    samples, before_s = samples_of(made.path), 0.0
    for sentence in made.sentences:
        begin, end = (round(at * SAMPLE_RATE) for at in (sentence.start_s, sentence.end_s))
        assert (samples[begin:end] == {"one": 1000, "two": 2000}[sentence.text]).all()
        least_s, most_s = DIALOGUE_PAUSE_S
        assert least_s - 1e-3 <= sentence.start_s - before_s <= most_s + 1e-3
        before_s = sentence.end_s
    assert [s.text for s in made.sentences[:2]] in (["one", "two"], ["two", "one"])


def test_a_soundtrack_has_speech_and_scenes_without(tones: SpeechSet, tmp_path: Path) -> None:
    """In turn, to the end; what sounds in a scene is as loud beside the speech as it says."""
    film = soundtrack(tmp_path / "xx-film.flac", [tones], 400.0)
    samples = samples_of(film.speech.path).astype(np.float64)
    assert len(samples) / SAMPLE_RATE == pytest.approx(film.scenes[-1].end_s)
    assert film.scenes[-1].end_s >= 400
    assert {scene.sound for scene in film.scenes} == {*SOUNDS, "silence"}
    spoken = [(s.start_s, s.end_s) for s in film.speech.sentences]
    for scene in film.scenes:
        assert not any(a < scene.end_s - 1e-6 and b > scene.start_s + 1e-6 for a, b in spoken)
        part = samples[int(scene.start_s * SAMPLE_RATE) : int(scene.end_s * SAMPLE_RATE)]
        level = np.sqrt(np.mean(np.square(part / 32768)))
        wanted = 0.0 if scene.sound == "silence" else 0.06 * 10 ** (scene.level_db / 20)
        assert level == pytest.approx(wanted, rel=0.2, abs=2e-4)


@pytest.mark.parametrize("name", SOUNDS)
def test_what_is_synthesised_is_of_one_loudness(name: str) -> None:
    """Whatever it is and however long; by chance but always the same."""
    for seconds in (2, 9):
        made, again = (
            SOUNDS[name](np.random.default_rng(0), seconds * SAMPLE_RATE) for _ in range(2)
        )
        assert made.shape == (seconds * SAMPLE_RATE,)
        assert np.sqrt(np.mean(np.square(made))) == pytest.approx(1.0, rel=0.05)
        assert np.array_equal(made, again)


def outcome(
    *segments: tuple[float, float, str, str], told: tuple[float, float] = (0, 0)
) -> Outcome:
    """Segments with a flag or none each, and a stretch that is told."""
    return Outcome(
        Reading(),
        tuple((start_s, end_s, text) for start_s, end_s, text, _ in segments),
        tuple((flag,) if flag else () for *_, flag in segments),
        (told,),
    )


def test_a_line_is_lost_where_nothing_of_it_is_there_or_told() -> None:
    """Half of its words, a flag in its time, or its time told as without text will do."""
    speech = SpeechSet("", "en", Path(), (Sentence(5.0, 7.0, "where is the key"),))
    lost = [speech.sentences[0]]
    assert lost_lines(speech, outcome()) == lost
    assert lost_lines(speech, outcome((5.1, 6.9, "Open it.", ""))) == lost
    assert lost_lines(speech, outcome((20.0, 22.0, "Where is the key?", ""))) == lost
    assert not lost_lines(speech, outcome((5.1, 6.9, "Is the tree", "")))
    assert not lost_lines(speech, outcome((5.1, 6.9, "Whereisthekey.", "")))
    assert not lost_lines(speech, outcome((5.1, 6.9, "Open it.", "INCOMPLETE")))
    assert not lost_lines(speech, outcome(told=(5.2, 6.8)))
    written = {"where is the key": "Open it."}
    assert not lost_lines(speech, outcome((5.1, 6.9, "Open it.", "")), written)


def test_voice_is_untold_where_it_has_neither_text_nor_is_told() -> None:
    """A share of the voice; a segment without text covers nothing."""
    found = outcome((0.0, 2.0, "a", ""), (4.0, 6.0, " ", ""), told=(2.5, 4.0))
    assert untold_share(found, [(0.0, 5.0)]) == pytest.approx((0.5 + 1.0) / 5)
    assert untold_share(found, []) == 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(N_DIALOGUES))
def test_no_line_of_a_dialogue_is_lost_silently(
    service: Service, alone: dict[str, str], seed: int, tmp_path: Path
) -> None:
    """Its words are there near their time, or the time is told or flagged: ten dialogues."""
    talk = dialogue(tmp_path / "en-talk.flac", sets_in("en"), seed, N_LINES)
    assert lost_lines(talk, product.called(service, talk), alone) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("language", ["en", "hi", "es", "ja"])
def test_all_of_a_voice_has_text_or_is_told(service: Service, language: str) -> None:
    """Seconds with text and seconds that are told are the seconds of voice, to 1 %."""
    for speech in sets_in(language):
        heard = reference(speech)
        assert untold_share(product.called(service, speech), heard.voice) <= 0.01, speech.name


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("film", soundtracks.FILMS)
def test_no_text_without_a_flag_stands_where_nobody_speaks(
    service: Service, film: str, tmp_path: Path
) -> None:
    """Eight minutes of speech, music and noise; the benchmark of this name makes hours."""
    languages = soundtracks.FILMS[film]
    made = soundtrack(tmp_path / "film.flac", sets_in(*languages), 8 * 60, seed=1)
    asked = languages if len(languages) > 1 else ()
    assert soundtracks.invented(made, product.called(service, made.speech, asked)) == []
