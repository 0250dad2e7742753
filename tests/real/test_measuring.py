# pyright: basic
"""What the benchmarks measure with: films, starts of segments, missed voice."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.films import excerpt, make_film, samples_of, write_flac
from benchmarks.judging import missed_s, start_errors
from benchmarks.recordings import SpeechSet, read_set, speech_sets

VOICE = [(1.0, 4.0), (5.0, 9.0), (10.0, 30.0)]


@pytest.fixture
def tones(tmp_path: Path) -> SpeechSet:
    """Three "sentences", each a constant of its own value, with other values between them."""
    samples = np.zeros(16_000 * 8, np.int16)
    rows = [(1.0, 2.0, "one"), (3.0, 5.5, "two"), (6.0, 6.5, "three")]
    for value, (start_s, end_s, _) in enumerate(rows, start=1):
        samples[int(start_s * 16_000) : int(end_s * 16_000)] = 1000 * value
    write_flac(tmp_path / "xx-tones.flac", samples)
    (tmp_path / "xx-tones.json").write_text(json.dumps(rows), encoding="utf-8")
    return read_set(tmp_path / "xx-tones.json")


def test_a_film_says_when_each_of_its_sentences_is_said(tones: SpeechSet, tmp_path: Path) -> None:
    """The audio at a sentence's times is that sentence's, as long as it was, with pauses around."""
    film = make_film(tmp_path / "xx-film.flac", [tones], length_s=30)
    samples = samples_of(film.path)
    assert film.language == "xx"
    assert film.sentences[-1].end_s == pytest.approx(len(samples) / 16_000)
    assert 30 <= film.sentences[-1].end_s < 34
    values, before_s = {"one": 1000, "two": 2000, "three": 3000}, 0.0
    for sentence in film.sentences:
        begin, end = (round(at * 16_000) for at in (sentence.start_s, sentence.end_s))
        assert (samples[begin:end] == values[sentence.text]).all()
        assert (samples[int(before_s * 16_000) + 1 : begin - 1] == 0).all()
        assert sentence.start_s - before_s + 1e-3 >= 0.4
        before_s = sentence.end_s
    assert len({sentence.text for sentence in film.sentences[:3]}) == 3


def test_an_excerpt_has_the_sentences_that_end_in_it(tones: SpeechSet, tmp_path: Path) -> None:
    """The cut one is left out of what is said."""
    short = excerpt(tmp_path / "xx-short.flac", tones, 4.0)
    assert len(samples_of(short.path)) == 4 * 16_000
    assert short.text == "one"


@pytest.mark.parametrize(
    ("segments", "errors_s"),
    [
        ([(1.0, 4.0, "a"), (5.0, 9.0, "b")], [0.0, 0.0]),
        ([(0.9, 4.5, "a"), (5.4, 9.0, "b")], [0.1, 0.4]),
        ([(1.0, 4.0, "a"), (3.9, 9.0, "early")], [0.0, 1.1]),
        ([(1.0, 5.6, "into the next one"), (5.6, 9.0, "late")], [0.0, 0.6]),
        ([(1.0, 4.0, "a"), (10.0, 20.0, "b"), (20.0, 30.0, "splits a stretch")], [0.0, 0.0]),
        ([(4.2, 4.8, "where nobody speaks")], []),
    ],
)
def test_a_segment_is_compared_with_the_onset_of_its_voice(
    segments: list[tuple[float, float, str]], errors_s: list[float]
) -> None:
    """Early and late ones alike; one that goes on in a stretch of voice has no onset."""
    assert start_errors(segments, VOICE) == pytest.approx(errors_s)


def test_voice_that_no_segment_covers_is_missed() -> None:
    """Segments without text cover nothing; overlapping ones count once."""
    segments = [(1.0, 3.0, "a"), (2.0, 3.5, "b"), (5.0, 9.0, " "), (9.5, 25.0, "c")]
    assert missed_s(segments, VOICE) == pytest.approx(0.5 + 4.0 + 5.0)


def test_an_unknown_benchmark_is_named() -> None:
    """With those that there are."""
    command = [sys.executable, "-m", "benchmarks", "gpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no benchmark gpu; there are: mlx_batching" in done.stderr
    assert "cuda" in done.stderr


@pytest.mark.slow
def test_the_service_writes_real_speech_as_well_as_the_library() -> None:
    """The benchmark's table for one English recording; WER within 2 points."""
    recordings = [str(one.path.with_suffix(".json")) for one in speech_sets("en")][:1]
    if not recordings:
        pytest.skip("models/real is missing; run `make real-models`")
    command = [sys.executable, "-m", "benchmarks", "cpu", "--no-mlx", "--recordings", *recordings]
    done = subprocess.run(
        [*command, "--systems", "faster-whisper,voxroute"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    cells = [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("|")]
    column = [heading.strip() for heading in cells[0]].index("WER %")
    rates = {row[1].strip(): float(row[column]) for row in cells[2:]}
    assert rates["voxroute"] <= rates["faster-whisper"] + 2.0
