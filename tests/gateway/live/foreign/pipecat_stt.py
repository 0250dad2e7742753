"""Pipecat's speech to text in a pipeline, with pauses by the server: BASE_URL FILE."""

import asyncio
import json
import sys
import wave
from pathlib import Path
from typing import Any

from pipecat.frames.frames import (
    EndFrame,
    Frame,
    InputAudioRawFrame,
    InterimTranscriptionFrame,
    TranscriptionFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.runner import PipelineRunner
from pipecat.pipeline.task import PipelineParams, PipelineTask
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.openai.stt import OpenAIRealtimeSTTService


class Printer(FrameProcessor):
    """Prints texts as they come, in JSON."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Passes everything on."""
        await super().process_frame(frame, direction)
        if isinstance(frame, InterimTranscriptionFrame | TranscriptionFrame):
            final = isinstance(frame, TranscriptionFrame)
            print(json.dumps({"final": final, "text": frame.text}), flush=True)
        await self.push_frame(frame, direction)


async def main(base_url: str, path: Path, *, by_server: bool) -> None:
    """Speaks the recording at its own pace."""
    with wave.open(str(path)) as file:
        rate, samples = file.getframerate(), file.readframes(file.getnframes())
    samples += bytes(2 * rate)
    turns: Any = {"type": "server_vad", "silence_duration_ms": 300} if by_server else False
    service = OpenAIRealtimeSTTService(
        api_key="none", base_url=base_url.replace("http", "ws") + "/realtime", turn_detection=turns
    )
    task = PipelineTask(
        Pipeline([service, Printer()]), params=PipelineParams(audio_in_sample_rate=rate)
    )

    async def speak() -> None:
        await asyncio.sleep(1)
        size = rate // 50 * 2
        for begin in range(0, len(samples), size):
            await task.queue_frame(InputAudioRawFrame(samples[begin : begin + size], rate, 1))
            await asyncio.sleep(0.02)
        if not by_server:
            await task.queue_frame(VADUserStoppedSpeakingFrame())
        await asyncio.sleep(4)
        await task.queue_frame(EndFrame())

    await asyncio.gather(PipelineRunner(handle_sigint=False).run(task), speak())


asyncio.run(main(sys.argv[1], Path(sys.argv[2]), by_server=sys.argv[3] == "server"))
