"""The microphone, by PortAudio."""

import importlib
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

from voxroute_orchestrator.errors import MediaError, UsageError
from voxroute_orchestrator.live.sources import PIECE_BYTES, ThreadSource
from voxroute_serving.audio.media import SAMPLE_BYTES, SAMPLE_RATE


class MicrophoneSource(ThreadSource):
    """What a microphone hears, which does not wait. `device` is its name or number, "" for any."""

    title = "microphone"
    waits = False

    def __init__(self, device: str = "") -> None:
        super().__init__()
        self._device = int(device) if device.isdecimal() else device or None
        self._heard: SimpleQueue[bytes] = SimpleQueue()
        self._portaudio = _portaudio()
        self._stream: Any = None

    async def open(self) -> None:
        """Opens the device. Raises MediaError with those that there are."""
        try:
            self._stream = self._portaudio.RawInputStream(
                samplerate=SAMPLE_RATE,
                channels=1,
                dtype="int16",
                blocksize=PIECE_BYTES // SAMPLE_BYTES,
                device=self._device,
                callback=self._hear,
            )
        except (self._portaudio.PortAudioError, ValueError) as error:
            raise MediaError(
                f"the microphone cannot be used ({error}); {self._devices()}"
            ) from error

    def read(self) -> Iterator[bytes]:
        """What is heard from now on."""
        with self._stream:
            while True:
                yield self._heard.get()

    def _hear(self, samples: Any, *_: object) -> None:
        self._heard.put(bytes(samples))

    def _devices(self) -> str:
        names = [
            f"{number} {device['name']}"
            for number, device in enumerate(self._portaudio.query_devices())
            if device["max_input_channels"]
        ]
        return f"there are: {', '.join(names)}" if names else "this host has none"


def _portaudio() -> Any:
    """The package that knows PortAudio. Raises UsageError where either is missing."""
    try:
        return importlib.import_module("sounddevice")
    except ModuleNotFoundError as error:
        raise UsageError(
            "the microphone needs the package sounddevice; `pip install"
            " 'voxroute-orchestrator[microphone]'` adds it"
        ) from error
    except OSError as error:
        raise UsageError(
            f"the microphone needs PortAudio ({error}); Debian's package is libportaudio2"
        ) from error
