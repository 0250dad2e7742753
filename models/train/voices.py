"""Speech of espeak-ng (in process) and flite: the only voices that the models learn from.

Audio is mono int16 numpy at the synthesiser's own rate; `resample` in `audio.py` brings it to 16 kHz.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import hashlib
import os
import random
import subprocess
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_SYNCHRONOUS = 2  # espeak_AUDIO_OUTPUT: the callback runs inside espeak_Synth
_UTF8 = 1
_RATE, _VOLUME, _PITCH, _RANGE, _WORDGAP = 1, 2, 3, 4, 7  # espeak_PARAMETER

#: Variants of the whole voice set that no listener would call clear; never used.
UNCLEAR = {
    "whisper", "whisperf", "Demonic", "Half-LifeAnnouncementSystem", "UniRobot", "announcer", "fast",
    "RicishayMax3", "Tweaky", "Storm", "anikaRobot", "robosoft6", "robosoft7", "robosoft8", "Mr serious",
}  # fmt: skip
LANGUAGE_VOICES = {
    "hi": ["hi"],
    "en": ["en-us", "en-us", "en-us", "gmw/en", "gmw/en", "gmw/en-GB-scotland", "gmw/en-GB-x-rp"],
}
FLITE_VOICES = ["kal16", "awb", "rms", "slt"]


class SynthesiserMissingError(RuntimeError):
    """espeak-ng is not installed; the message says how to get it."""


@dataclass(frozen=True)
class Voice:
    """One way of speaking: espeak's language and variant, words a minute, pitch and its range (0..99)."""

    language: str
    variant: str
    rate_wpm: int
    pitch: int
    pitch_range: int


class _Event(ctypes.Structure):
    """espeak_EVENT of speak_lib.h; the union at its end is never read."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),  # in characters, from 1
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # ms
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    ]


_END, _WORD = 0, 1  # espeak_EVENT_TYPE
_INT16_P = ctypes.POINTER(ctypes.c_short)
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, _INT16_P, ctypes.c_int, ctypes.POINTER(_Event))


class Espeak:
    """libespeak-ng in this process. One per process: the library has one global state."""

    def __init__(self) -> None:
        name = (
            os.environ.get("ESPEAK_LIBRARY")
            or ctypes.util.find_library("espeak-ng")
            or "libespeak-ng.so.1"
        )
        try:
            self._library = ctypes.CDLL(name)
        except OSError as exc:
            raise SynthesiserMissingError(
                "espeak-ng is missing: install it (apt install espeak-ng, brew install espeak-ng)"
            ) from exc
        data = os.environ.get("ESPEAK_DATA_PATH")
        self.sample_rate = self._library.espeak_Initialize(
            _SYNCHRONOUS, 0, data.encode() if data else None, 0
        )
        if self.sample_rate <= 0:
            raise SynthesiserMissingError("espeak-ng found no voice data: install espeak-ng-data")
        self._chunks: list[np.ndarray] = []
        self._words: dict[int, float] = {}
        self._callback = _CALLBACK(self._receive)  # kept: ctypes does not hold a reference
        self._library.espeak_SetSynthCallback(self._callback)
        path = ctypes.c_char_p()
        self._library.espeak_Info.restype = ctypes.c_char_p
        self._library.espeak_Info(ctypes.byref(path))
        self.variants_dir = Path((path.value or b"").decode()) / "voices" / "!v"

    def _receive(
        self,
        samples: ctypes._Pointer[ctypes.c_short],
        count: int,
        events: ctypes._Pointer[_Event],
    ) -> int:
        number = 0
        while events and events[number].type != _END:
            if events[number].type == _WORD:
                self._words[events[number].text_position - 1] = events[number].audio_position / 1000
            number += 1
        if samples and count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, shape=(count,)).copy())
        return 0

    def variants(self) -> list[str]:
        """The names of all usable variants, sorted."""
        return sorted(p.name for p in self.variants_dir.iterdir() if p.name not in UNCLEAR)

    def speak(self, text: str, voice: Voice) -> np.ndarray:
        """`text` as int16 samples at `sample_rate`, without the silence around it."""
        samples = self._spoken(text, voice)
        return samples[audible(samples)]

    def speak_timed(self, text: str, voice: Voice) -> tuple[np.ndarray, dict[int, float]]:
        """As `speak`, and when words begin: seconds, by the place of their first character.

        espeak-ng speaks some short words as a part of the next one; these are not there.
        """
        samples = self._spoken(text, voice)
        kept = audible(samples)
        words = {place: at_s - kept.start / self.sample_rate for place, at_s in self._words.items()}
        return samples[kept], words

    def _spoken(self, text: str, voice: Voice) -> np.ndarray:
        library = self._library
        name = f"{voice.language}+{voice.variant}" if voice.variant else voice.language
        if library.espeak_SetVoiceByName(name.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {name}")
        library.espeak_SetParameter(_RATE, voice.rate_wpm, 0)
        library.espeak_SetParameter(_PITCH, voice.pitch, 0)
        library.espeak_SetParameter(_RANGE, voice.pitch_range, 0)
        self._chunks, self._words = [], {}
        raw = text.encode()
        library.espeak_Synth(raw, len(raw) + 1, 0, 1, 0, _UTF8, None, None)
        library.espeak_Synchronize()
        return np.concatenate(self._chunks) if self._chunks else np.zeros(0, np.int16)


def audible(samples: np.ndarray, floor: int = 200, margin: int = 400) -> slice:
    """All of `samples` but leading and trailing parts below `floor`, with `margin` samples of these."""
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) > floor)
    if not len(loud):
        return slice(0, 0)
    return slice(max(0, int(loud[0]) - margin), int(loud[-1]) + margin)


def is_held_out_variant(variant: str) -> bool:
    """Whether `variant` (espeak's speaker) is kept from training, in every language."""
    return hashlib.sha1(variant.encode()).digest()[0] % 8 == 0


def random_voice(rng: random.Random, language: str, variants: list[str]) -> Voice:
    """A voice in the range of speeds and pitches that the models learn."""
    return Voice(
        rng.choice(LANGUAGE_VOICES[language]),
        rng.choice(variants),
        rng.randrange(115, 215),
        rng.randrange(20, 85),
        rng.randrange(25, 80),
    )


def flite(text: str, voice: str, stretch: float) -> tuple[np.ndarray, int]:
    """English `text` spoken by flite: samples and rate. `stretch` above 1 is slower."""
    path = Path(f"/tmp/flite-{os.getpid()}.wav")
    command = [
        "flite",
        "-voice",
        voice,
        "--setf",
        f"duration_stretch={stretch:.2f}",
        "-t",
        text,
        "-o",
        str(path),
    ]
    subprocess.run(command, check=True, capture_output=True)
    with wave.open(str(path)) as source:
        samples = np.frombuffer(source.readframes(source.getnframes()), np.int16)
        return samples[audible(samples)], source.getframerate()
