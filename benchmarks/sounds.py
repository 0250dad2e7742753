# pyright: basic
"""Sounds without a voice, synthesised: music, noises, a crowd's hands. All of them at RMS 1."""

from collections.abc import Callable

import numpy as np

from voxroute_serving.audio.samples import SAMPLE_RATE

Sound = np.ndarray
"""(samples,) of SAMPLE_RATE, float."""
Make = Callable[[np.random.Generator, int], Sound]
"""Makes so many samples by chance."""

_LOWEST_HZ = 110.0
_MINOR, _MAJOR = (0, 3, 7, 10), (0, 4, 7, 12)
_CLAPS_A_SECOND = 90
_CLAP_S = 0.03


def chords(rng: np.random.Generator, n_samples: int) -> Sound:
    """A progression of held chords, as of an organ, each of one to two and a half seconds."""
    return _in_turn(rng, n_samples, (1.0, 2.5), _chord)


def arpeggios(rng: np.random.Generator, n_samples: int) -> Sound:
    """Broken chords of plucked notes, five to eight a second."""
    return _in_turn(rng, n_samples, (0.12, 0.2), _pluck)


def melody(rng: np.random.Generator, n_samples: int) -> Sound:
    """A lead with vibrato over held chords: of all music, what is most like a voice."""
    lead = _in_turn(rng, n_samples, (0.25, 0.9), _sung)
    return _even(_even(lead) + 0.5 * chords(rng, n_samples))


def band(rng: np.random.Generator, n_samples: int) -> Sound:
    """Broken chords over drums, two beats a second."""
    beat = np.zeros(n_samples)
    hits = (_kick(), _burst(rng, 0.03), _burst(rng, 0.12), _burst(rng, 0.03))
    for number, at in enumerate(range(0, n_samples, SAMPLE_RATE // 4)):
        part = hits[number % len(hits)][: n_samples - at]
        beat[at : at + len(part)] += part
    return _even(_even(beat) + arpeggios(rng, n_samples))


def white(rng: np.random.Generator, n_samples: int) -> Sound:
    """As of a radio between stations."""
    return rng.standard_normal(n_samples)


def pink(rng: np.random.Generator, n_samples: int) -> Sound:
    """As of rain: as much power in each octave."""
    return _coloured(rng, n_samples, 0.5)


def brown(rng: np.random.Generator, n_samples: int) -> Sound:
    """As of wind or a cabin."""
    return _coloured(rng, n_samples, 1.0)


def rumble(rng: np.random.Generator, n_samples: int) -> Sound:
    """As of traffic behind a window: below 90 Hz, swelling."""
    spectrum = np.fft.rfft(rng.standard_normal(n_samples))
    spectrum[np.fft.rfftfreq(n_samples, 1 / SAMPLE_RATE) > 90] = 0  # noqa: PLR2004 - Hz, as said
    swell = 1.2 + np.sin(2 * np.pi * 0.3 * np.arange(n_samples) / SAMPLE_RATE)
    return _even(np.fft.irfft(spectrum, n_samples) * swell)


def applause(rng: np.random.Generator, n_samples: int) -> Sound:
    """The claps of many hands, of every loudness."""
    seconds = n_samples / SAMPLE_RATE
    sound = np.zeros(n_samples + int(_CLAP_S * SAMPLE_RATE) + 1)
    for at in rng.integers(0, n_samples, int(_CLAPS_A_SECOND * seconds)):
        clap = rng.exponential(1.0) * _burst(rng, _CLAP_S)
        sound[at : at + len(clap)] += clap
    return _even(sound[:n_samples])


def hum(rng: np.random.Generator, n_samples: int) -> Sound:
    """The mains: 50 Hz and its harmonics."""
    phases = rng.uniform(0, 2 * np.pi, 9)
    t = np.arange(n_samples) / SAMPLE_RATE
    parts = [np.sin(2 * np.pi * 50 * k * t + phases[k - 1]) / k for k in range(1, 10)]
    return _even(np.sum(parts, axis=0))


SOUNDS: dict[str, Make] = {
    make.__name__: make
    for make in (chords, arpeggios, melody, band, white, pink, brown, rumble, applause, hum)
}


def _even(sound: Sound) -> Sound:
    return sound / (np.sqrt(np.mean(np.square(sound))) or 1.0)


def _in_turn(
    rng: np.random.Generator,
    n_samples: int,
    length_s: tuple[float, float],
    play: Callable[[np.random.Generator, float, int], Sound],
) -> Sound:
    """Notes or chords one after the other, on the steps of a scale."""
    sound = np.zeros(n_samples)
    at = 0
    while at < n_samples:
        root_hz = _LOWEST_HZ * 2 ** (rng.choice([0, 2, 3, 5, 7, 8, 10, 12, 15, 17]) / 12)
        length = int(rng.uniform(*length_s) * SAMPLE_RATE)
        played = play(rng, root_hz, length)[: n_samples - at]
        sound[at : at + len(played)] += played
        at += length
    return _even(sound)


def _chord(rng: np.random.Generator, root_hz: float, length: int) -> Sound:
    t = np.arange(length) / SAMPLE_RATE
    steps = _MINOR if rng.random() < 0.5 else _MAJOR  # noqa: PLR2004 - as often as not
    notes = [
        np.sin(2 * np.pi * root_hz * 2 ** (step / 12) * k * t) / k**1.5
        for step in steps
        for k in range(1, 6)
    ]
    return sum(notes) * np.minimum(1, np.minimum(t, t[::-1]) / 0.05)


def _pluck(rng: np.random.Generator, root_hz: float, length: int) -> Sound:
    t = np.arange(length) / SAMPLE_RATE
    hz = root_hz * 2 ** (rng.choice(_MAJOR) / 12)
    return sum(np.sin(2 * np.pi * hz * k * t) / k for k in range(1, 6)) * np.exp(-t / 0.15)


def _sung(_: np.random.Generator, root_hz: float, length: int) -> Sound:
    t = np.arange(length) / SAMPLE_RATE
    phase = 2 * np.pi * 2 * root_hz * t + 2.0 * np.sin(2 * np.pi * 5.5 * t)
    note = sum(np.sin(k * phase) / k for k in range(1, 8))
    return note * np.minimum(1, np.minimum(t, t[::-1]) / 0.04)


def _kick() -> Sound:
    t = np.arange(int(0.18 * SAMPLE_RATE)) / SAMPLE_RATE
    return np.sin(2 * np.pi * (50 * t + 8 * (1 - np.exp(-t / 0.03)))) * np.exp(-t / 0.06)


def _burst(rng: np.random.Generator, length_s: float) -> Sound:
    t = np.arange(int(length_s * SAMPLE_RATE)) / SAMPLE_RATE
    return rng.standard_normal(len(t)) * np.exp(-4 * t / length_s)


def _coloured(rng: np.random.Generator, n_samples: int, power: float) -> Sound:
    spectrum = np.fft.rfft(rng.standard_normal(n_samples))
    hz = np.fft.rfftfreq(n_samples, 1 / SAMPLE_RATE)
    return _even(np.fft.irfft(spectrum / np.maximum(hz, 20.0) ** power, n_samples))
