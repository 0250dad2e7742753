"""Speech whose words a service without a model reads out of the sound; see marked_speech."""

import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import numpy as np

from tests.serving.recordings import silence, speech
from voxroute_serving.asr.app import AsrApp
from voxroute_serving.process.main import Runtime
from voxroute_serving.process.settings import AsrSettings
from voxroute_serving.testing.fake_engine import FakeEngine
from voxroute_serving.testing.marked_speech import SaidWord, heard, marked
from voxroute_serving.testing.served import Served, serving

UTTERANCE_S, PAUSE_S, _WORD_S = 4.0, 1.5, 0.5
_WORDS = 8  # of an utterance; the eighth ends its sentence


def said(utterances: int) -> "np.ndarray[Any, np.dtype[np.int16]]":
    """Utterances of eight words, each with a pause behind it."""
    sound = np.concatenate(
        [part for n in range(utterances) for part in (speech(UTTERANCE_S, n), silence(PAUSE_S))]
    )
    words = [
        SaidWord(
            n * _WORDS + k + 1,
            n * (UTTERANCE_S + PAUSE_S) + k * _WORD_S + 0.02,
            n * (UTTERANCE_S + PAUSE_S) + (k + 1) * _WORD_S - 0.02,
        )
        for n in range(utterances)
        for k in range(_WORDS)
    ]
    return marked(sound, words)


def texts(utterances: int) -> list[str]:
    """What the engine writes of them."""
    words = [SaidWord(n + 1, 0, 0).text for n in range(utterances * _WORDS)]
    return [" ".join(words[n : n + _WORDS]) for n in range(0, len(words), _WORDS)]


@contextlib.asynccontextmanager
async def service(address: str = "127.0.0.1:0") -> AsyncGenerator[Served[AsrApp]]:
    """A speech service."""
    engine = FakeEngine(segments=heard)

    def build(settings: AsrSettings, runtime: Runtime) -> AsrApp:
        return AsrApp(engine, settings, runtime)

    async with serving(build, AsrSettings(listen=[address], metrics_listen="")) as served:
        yield served
