# pyright: basic
"""Long recordings with what is said, made of short ones.

    python -m benchmarks.films en-film.mka 30 en-read.json en-short.json

writes 30 minutes, en-film.mka and en-film.json: the sentences of the sets again and again, in
another order each time, with pauses of 0.4 to 1.6 s. The name begins with the language. `dialogue`
and `soundtrack` make what tests and the benchmark of soundtracks need: short lines with long
pauses, and speech amid music and noise.
"""

import argparse
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.recordings import Sentence, SpeechSet, read_set
from benchmarks.sounds import SOUNDS
from voxroute_serving.audio.samples import SAMPLE_RATE

PAUSE_S = (0.4, 1.6)
DIALOGUE_PAUSE_S = (0.4, 4.5)
_LINE_S = 8.0  # a longer sentence is no line of a dialogue
SCENE_S = (4.0, 40.0)
"""How long a scene without a voice is."""
SCENE_SENTENCES = (1, 6)
LEVELS_DB = (6, 0, -6, -12, -20, -30, -45)
"""How loud a scene without a voice is beside the speech."""
BEDS_DB = (-12, -18, -25)
"""How loud a sound under speech is beside it."""
_BED = 0.4  # of the scenes with speech
_SPEECH_RMS = 0.06  # of full scale, -24 dB: what is 6 dB louder still does not clip
_PER_FRAME = 60 * SAMPLE_RATE  # samples given to the encoder at once


def samples_of(path: Path) -> np.ndarray:
    """(samples,) of 16 kHz, 16-bit audio."""
    import av  # noqa: PLC0415 - seconds

    with av.open(str(path)) as container:
        resampler = av.AudioResampler("s16", "mono", SAMPLE_RATE)
        frames = [f for frame in container.decode(audio=0) for f in resampler.resample(frame)]
        frames += resampler.resample(None)
    return np.concatenate([frame.to_ndarray()[0] for frame in frames])


class Track:
    """Sound whose parts follow each other; (samples,) of 16 kHz."""

    def __init__(self) -> None:
        self.parts: list[np.ndarray] = []
        self.n_samples = 0

    def add(self, samples: np.ndarray) -> tuple[float, float]:
        """Appends a part; when it begins and ends, seconds."""
        start = self.n_samples
        self.parts.append(samples)
        self.n_samples += len(samples)
        return start / SAMPLE_RATE, self.n_samples / SAMPLE_RATE

    def pause(self, length_s: float) -> None:
        """Appends silence."""
        self.add(np.zeros(int(length_s * SAMPLE_RATE), np.int16))

    def whole(self) -> np.ndarray:
        """All parts."""
        return np.concatenate(self.parts)


def write_set(
    path: Path, samples: np.ndarray, said: Sequence[tuple[float, float, str]]
) -> SpeechSet:
    """Writes a recording of 16-bit samples, and what is said in it beside it."""
    write_flac(path, samples)
    reference = path.with_suffix(".json")
    reference.write_text(json.dumps(said, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
    return read_set(reference)


def make_film(path: Path, sets: Sequence[SpeechSet], length_s: float) -> SpeechSet:
    """Writes the recording and its JSON; it ends with the first sentence beyond length_s."""
    audio = {one.path: samples_of(one.path) for one in sets}
    sentences = [(one.path, sentence) for one in sets for sentence in one.sentences]
    order = random.Random(0)  # noqa: S311 - the same film everywhere
    track = Track()
    rows: list[tuple[float, float, str]] = []
    while track.n_samples < length_s * SAMPLE_RATE:
        for source, sentence in order.sample(sentences, len(sentences)):
            track.pause(order.uniform(*PAUSE_S))
            rows.append((*track.add(cut_of(audio[source], sentence)), sentence.text.strip()))
            if track.n_samples >= length_s * SAMPLE_RATE:
                break
    return write_set(path, track.whole(), rows)


def dialogue(path: Path, sets: Sequence[SpeechSet], seed: int, n_lines: int = 24) -> SpeechSet:
    """Writes short lines in turn, no two alike in a row, with pauses of DIALOGUE_PAUSE_S."""
    lines = [
        (one.path, sentence)
        for one in sets
        for sentence in one.sentences
        if sentence.end_s - sentence.start_s <= _LINE_S
    ]
    audio = {one.path: samples_of(one.path) for one in sets}
    chance = random.Random(seed)  # noqa: S311 - the same dialogue everywhere
    track = Track()
    said: list[Sentence] = []
    for _ in range(n_lines):
        others = [line for line in lines if not said or said[-1].text != line[1].text.strip()]
        source, sentence = chance.choice(others)
        track.pause(chance.uniform(*DIALOGUE_PAUSE_S))
        times = track.add(cut_of(audio[source], sentence))
        said.append(Sentence(*times, sentence.text.strip()))
    write_flac(path, track.whole())
    return SpeechSet(path.stem, sets[0].language, path, tuple(said))


@dataclass(frozen=True, slots=True)
class Scene:
    """A scene without a voice: what sounds in it, and how loud beside the speech, dB."""

    start_s: float
    end_s: float
    sound: str
    level_db: float


@dataclass(frozen=True, slots=True)
class Soundtrack:
    """A film's sound: what is said, and the scenes in which nobody speaks."""

    speech: SpeechSet
    scenes: tuple[Scene, ...]


def soundtrack(path: Path, sets: Sequence[SpeechSet], length_s: float, seed: int = 0) -> Soundtrack:
    """Writes scenes with speech and scenes with music or noise in turn, until length_s.

    Each scene of speech is of one set, all of the same loudness; under some a sound goes on.
    """
    rng = np.random.default_rng(seed)
    audio = {one.path: _levelled(samples_of(one.path)) for one in sets}
    names = [*SOUNDS, "silence"]
    track = Track()
    said: list[Sentence] = []
    scenes: list[Scene] = []
    while track.n_samples < length_s * SAMPLE_RATE:
        number = len(scenes)
        spoken, sentences = _speech_scene(rng, audio, sets[number % len(sets)])
        at_s, _ = track.add(spoken)
        said += (Sentence(at_s + s.start_s, at_s + s.end_s, s.text) for s in sentences)
        name, level_db = names[number % len(names)], int(rng.choice(LEVELS_DB))
        between = np.zeros(int(rng.uniform(*SCENE_S) * SAMPLE_RATE))
        if name in SOUNDS:
            between += _SPEECH_RMS * 10 ** (level_db / 20) * SOUNDS[name](rng, len(between))
        scenes.append(Scene(*track.add(between), name, level_db))
    whole = np.clip(track.whole(), -1, 1)
    write_flac(path, np.round(whole * 32767).astype(np.int16))
    return Soundtrack(SpeechSet(path.stem, sets[0].language, path, tuple(said)), tuple(scenes))


def _speech_scene(
    rng: np.random.Generator, audio: dict[Path, np.ndarray], source: SpeechSet
) -> tuple[np.ndarray, list[Sentence]]:
    """Sentences of a set with pauses between, and when each is said."""
    wanted = int(rng.integers(SCENE_SENTENCES[0], SCENE_SENTENCES[1] + 1))
    chosen = rng.permutation(len(source.sentences))[:wanted]
    track = Track()
    said: list[Sentence] = []
    for sentence in (source.sentences[number] for number in chosen):
        if said:
            track.pause(rng.uniform(*PAUSE_S))
        times = track.add(cut_of(audio[source.path], sentence))
        said.append(Sentence(*times, sentence.text.strip()))
    scene = track.whole()
    if rng.random() < _BED:
        name, level_db = str(rng.choice([*SOUNDS])), int(rng.choice(BEDS_DB))
        scene = scene + _SPEECH_RMS * 10 ** (level_db / 20) * SOUNDS[name](rng, len(scene))
    return scene, said


def cut_of(audio: np.ndarray, sentence: Sentence) -> np.ndarray:
    """The samples of a sentence."""
    return audio[int(sentence.start_s * SAMPLE_RATE) : int(sentence.end_s * SAMPLE_RATE)]


def _levelled(samples: np.ndarray) -> np.ndarray:
    """As float, at the loudness of speech."""
    sound = samples / 32768
    return sound * (_SPEECH_RMS / np.sqrt(np.mean(np.square(sound))))


def excerpt(path: Path, source: SpeechSet, length_s: float) -> SpeechSet:
    """Writes the first seconds of a set, with the sentences that end in them."""
    rows = [(s.start_s, s.end_s, s.text) for s in source.sentences if s.end_s <= length_s]
    return write_set(path, samples_of(source.path)[: int(length_s * SAMPLE_RATE)], rows)


def write_flac(path: Path, samples: np.ndarray) -> None:
    """Writes (samples,) of 16 kHz, 16-bit audio; .mka is FLAC in Matroska, as a film has it."""
    import av  # noqa: PLC0415 - seconds

    with av.open(str(path), "w") as container:
        stream = container.add_stream("flac", rate=SAMPLE_RATE, layout="mono", format="s16")
        for begin in range(0, len(samples), _PER_FRAME):
            part = samples[None, begin : begin + _PER_FRAME]
            frame = av.AudioFrame.from_ndarray(part, format="s16", layout="mono")
            frame.rate, frame.pts = SAMPLE_RATE, begin
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes a film; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.films", description=__doc__)
    parser.add_argument("target", type=Path, help="LANGUAGE-NAME.mka, or .flac")
    parser.add_argument("minutes", type=float)
    parser.add_argument("references", type=Path, nargs="+", help="NAME.json of each set")
    given = parser.parse_args(arguments)
    film = make_film(given.target, [read_set(p) for p in given.references], given.minutes * 60)
    print(f"{film.path}: {film.sentences[-1].end_s:.0f} s, {len(film.sentences)} sentences")
    return 0


if __name__ == "__main__":
    sys.exit(main())
