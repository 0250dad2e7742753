"""Who speaks when: the method Diarize, over any library that tells speakers apart.

Speakers are told apart over the whole recording, so all of it is kept until the device is free:
as 16-bit samples, 115 MB an hour at 16 kHz, and as 32-bit ones, 230 MB an hour more, while the
device works on it. The longest recording (`max_audio_s`) times the calls at once bounds it.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from voxroute.asr.v1 import asr_pb2
from voxroute.common.v1 import common_pb2
from voxroute_serving import messages as common_messages
from voxroute_serving.asr import messages
from voxroute_serving.audio import decoders as audio
from voxroute_serving.audio.samples import SAMPLE_RATE, Samples
from voxroute_serving.calls.feed import Feed, Threaded
from voxroute_serving.calls.requests import Context, Requests, Send, open_group, relayed
from voxroute_serving.device.batcher import Admission, Batcher, BatchRecord, DeviceThread
from voxroute_serving.device.pool import ModelPool, PoolLimits, PoolObserver
from voxroute_serving.domain import Activity, DeviceInfo, ModelRef, Stop
from voxroute_serving.errors import (
    ModelNotFoundError,
    OutOfMemoryError,
    ServingError,
    UnsupportedError,
)
from voxroute_serving.telemetry.logs import get_logger
from voxroute_serving.telemetry.request_ids import request_id

_BLOCKS_WAITING = 16  # half seconds of audio between the decoder and the recording
_INT16_SCALE = 32768.0

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Turn:
    """A stretch in which one person speaks; seconds from the start of the recording."""

    start_s: float
    end_s: float
    speaker: str
    """Any name; the same one for the same person throughout a recording."""


class DiarizationModel(Protocol):
    """A model in the device's memory. Every method runs on one of the device's threads.

    One recording at a time; `close` may be called while one runs whose caller has left.
    """

    @property
    def ref(self) -> ModelRef:
        """The model's name and revision."""
        ...

    @property
    def memory_bytes(self) -> int:
        """The device's memory that it takes, bytes; 0 where nobody knows."""
        ...

    def diarize(
        self, samples: Samples, min_speakers: int | None, max_speakers: int | None, stop: Stop
    ) -> Sequence[Turn]:
        """The turns of a whole recording, in any order; none where nobody speaks.

        Where `stop` turns true the result may be anything. Raises OutOfMemoryError, EngineError.
        """
        ...

    def close(self) -> None:
        """Frees the memory of the device."""
        ...


class Diarizer(Protocol):
    """A library that tells speakers apart. It may stand beside any speech engine."""

    def available(self) -> ModelRef | None:
        """The model where it is on this machine, so that it loads without a download.

        Cheap; callable from any thread.
        """
        ...

    def device(self) -> DeviceInfo:
        """The hardware that runs it; callable from any thread."""
        ...

    def resolve(self, model: str) -> str:
        """The canonical id of a model name ("" is the default). Raises ModelNotFoundError."""
        ...

    def fetch(self) -> None:
        """Gets the default model onto this machine. Blocks while it downloads.

        Raises ModelNotFoundError, ModelUnavailableError.
        """
        ...

    def load(self, model: str, activity: Activity) -> DiarizationModel:
        """The model of a canonical id, in memory and ready. Runs on a thread of the device.

        Raises ModelNotFoundError, ModelUnavailableError, OutOfMemoryError.
        """
        ...


class Recording:
    """A recording in memory, 2 bytes a sample."""

    def __init__(self) -> None:
        self._blocks: list[npt.NDArray[np.int16]] = []
        self.n_samples = 0

    def append(self, block: Samples) -> None:
        """Adds samples of -1 to 1; what is louder is clipped."""
        scaled = np.rint(block * np.float32(_INT16_SCALE))
        self._blocks.append(np.clip(scaled, -_INT16_SCALE, _INT16_SCALE - 1).astype(np.int16))
        self.n_samples += len(block)

    def samples(self) -> Samples:
        """All of it, 4 bytes a sample. Raises OutOfMemoryError."""
        try:
            whole = np.empty(self.n_samples, np.float32)
        except MemoryError as error:
            raise OutOfMemoryError(
                f"this host's memory does not hold a recording of {self.duration_s:.0f} s; send it"
                " in parts"
            ) from error
        at = 0
        for block in self._blocks:
            np.multiply(block, np.float32(1 / _INT16_SCALE), out=whole[at : at + len(block)])
            at += len(block)
        return whole

    @property
    def duration_s(self) -> float:
        """Its length in seconds."""
        return self.n_samples / SAMPLE_RATE


def in_order_of_speech(turns: Iterable[Turn], duration_s: float) -> list[Turn]:
    """The turns by their start times, cut to the recording; speakers named as they come.

    "SPEAKER_00" speaks first, "SPEAKER_01" is the next new voice, and so on. A turn without a
    length, to the microsecond, is dropped.
    """
    within = (
        Turn(max(0.0, turn.start_s), min(duration_s, turn.end_s), turn.speaker) for turn in turns
    )
    kept = sorted(
        (
            turn
            for turn in within
            if common_messages.microseconds(turn.end_s) > common_messages.microseconds(turn.start_s)
        ),
        key=lambda turn: (turn.start_s, turn.end_s, turn.speaker),
    )
    names: dict[str, str] = {}
    for turn in kept:
        names.setdefault(turn.speaker, f"SPEAKER_{len(names):02d}")
    return [Turn(turn.start_s, turn.end_s, names[turn.speaker]) for turn in kept]


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """The key of a recording: none equals another, so each is a batch of its own."""

    model: DiarizationModel
    options: messages.DiarizationOptions


class Diarization:
    """Diarize for one service; without a diarizer every call ends with UNIMPLEMENTED."""

    def __init__(
        self,
        diarizer: Diarizer | None,
        thread: DeviceThread,
        admission: Admission,
        *,
        max_audio_s: float,
        on_batch: Callable[[BatchRecord], None] | None = None,
        idle_ttl_s: float = 0.0,
        observer: PoolObserver | None = None,
    ) -> None:
        self._diarizer = diarizer
        self._thread = thread
        self._admission = admission
        self._max_audio_s = max_audio_s
        self._pool = (
            ModelPool[DiarizationModel](
                thread,
                diarizer.resolve,
                diarizer.load,
                PoolLimits(idle_ttl_s=idle_ttl_s),
                observer=observer,
            )
            if diarizer is not None
            else None
        )
        self._batcher: Batcher[Recording, list[Turn]] = Batcher(
            thread,
            lambda key, recordings, stop: _run(cast("_Work", key), recordings, stop),
            lambda _: 1,
            on_batch,
            "diarize",
            lambda key: cast("_Work", key).model.ref.id,
            max_running=1,  # the others' threads and memory are for windows
        )

    @property
    def queued(self) -> int:
        """Recordings that wait for the device."""
        return self._batcher.queued

    @property
    def features(self) -> set["asr_pb2.Feature"]:
        """FEATURE_DIARIZATION where the model is on this machine."""
        here = self._diarizer is not None and self._diarizer.available() is not None
        return {asr_pb2.FEATURE_DIARIZATION} if here else set()

    async def start(self) -> None:
        """Gets the model onto this machine; where that fails, the log says why, and so do calls.

        Raises ModelNotFoundError where there is no such model: waiting would not bring it.
        """
        if self._diarizer is None or self._diarizer.available() is not None:
            return
        try:
            await self._thread.run(self._diarizer.fetch)
        except ModelNotFoundError:
            raise
        except ServingError as error:
            _log.warning("no diarization", reason=error.message)

    async def close(self) -> None:
        """Frees the model on its thread."""
        if self._pool is not None:
            await self._pool.close()

    def answers(
        self, request_iterator: AsyncIterator[asr_pb2.DiarizeRequest], context: Context
    ) -> AsyncGenerator[asr_pb2.DiarizeResponse]:
        """The answers of one call. Raises ServingError."""
        requests = Requests[asr_pb2.DiarizeConfig](request_iterator)

        async def work(send: Send[asr_pb2.DiarizeResponse]) -> None:
            async with self._admission.permit():
                await self._diarize(requests, send)

        return relayed(work, context)

    async def _diarize(
        self, requests: Requests[asr_pb2.DiarizeConfig], send: Send[asr_pb2.DiarizeResponse]
    ) -> None:
        """One admitted call.

        1. check the options, load the model and answer `accepted`;
        2. decode the recording on a thread, fed by a task that reads the client, up to `finish`;
        3. tell the speakers apart on the device, in one recording at a time;
        4. send the turns in media time.
        """
        options = messages.diarization_options(await requests.config())
        if self._diarizer is None or self._pool is None:
            raise UnsupportedError(
                "this service tells no speakers apart; send the recording to a service whose"
                " capabilities name FEATURE_DIARIZATION"
            )
        async with self._pool.lease(options.model) as model:
            await send(_accepted(model.ref, self._diarizer.device()))
            recording, decoder = await self._recording(requests, options)
            timed = await self._batcher.submit(_Work(model, options), recording)
            for remark in audio.told(decoder, "speakers"):
                await send(_warning(remark.code, remark.message))
            turns = timed.result
            for turn in turns:
                await send(_turn(turn, decoder.start_s))
        if not turns:
            await send(
                _warning(
                    "NO_SPEECH", "nobody speaks in the recording, as far as the model can hear"
                )
            )
        speakers = len({turn.speaker for turn in turns})
        done = asr_pb2.DiarizeDone(speakers=speakers, turns=len(turns))
        await send(asr_pb2.DiarizeResponse(done=done))

    async def _recording(
        self, requests: Requests[asr_pb2.DiarizeConfig], options: messages.DiarizationOptions
    ) -> tuple[Recording, audio.Decoder]:
        """The whole recording, once the client has finished it."""
        feed = Feed()
        decoder = audio.decoder(options.audio, feed, self._max_audio_s)
        recording = Recording()
        async with (
            Threaded(lambda: iter(decoder), _BLOCKS_WAITING, feed) as source,
            open_group() as group,
        ):
            group.create_task(requests.feed(feed))
            async for block in source:
                recording.append(block)
        return recording, decoder


def _run(work: _Work, recordings: Sequence[Recording], stop: Stop) -> list[list[Turn]]:
    options = work.options
    return [
        in_order_of_speech(
            work.model.diarize(
                recording.samples(), options.min_speakers, options.max_speakers, stop
            ),
            recording.duration_s,
        )
        for recording in recordings
    ]


def _accepted(ref: ModelRef, device: DeviceInfo) -> asr_pb2.DiarizeResponse:
    return asr_pb2.DiarizeResponse(
        accepted=asr_pb2.DiarizeAccepted(
            request_id=request_id(),
            model=common_messages.model_ref(ref),
            device=common_messages.device(device),
        )
    )


def _turn(turn: Turn, offset_s: float) -> asr_pb2.DiarizeResponse:
    """The message of a turn; `offset_s` is the media time of the recording's first sample."""
    return asr_pb2.DiarizeResponse(
        turn=asr_pb2.SpeakerTurn(
            start=common_messages.duration(offset_s + turn.start_s),
            end=common_messages.duration(offset_s + turn.end_s),
            speaker=turn.speaker,
        )
    )


def _warning(code: str, message: str) -> asr_pb2.DiarizeResponse:
    return asr_pb2.DiarizeResponse(warning=common_pb2.Warning(code=code, message=message))
