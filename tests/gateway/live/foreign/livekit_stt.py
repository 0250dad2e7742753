"""LiveKit's speech to text hears a recording at the pace of speech: BASE_URL FILE MODEL."""

import asyncio
import json
import sys
import wave
from pathlib import Path
from typing import Any

import aiohttp
from livekit import rtc
from livekit.agents import stt
from livekit.agents.utils import http_context
from livekit.plugins import openai


async def main(base_url: str, path: Path, model: str) -> None:
    """Prints a line for each event, in JSON."""
    with wave.open(str(path)) as file:
        rate, samples = file.getframerate(), file.readframes(file.getnframes())
    samples += bytes(2 * rate)
    async with aiohttp.ClientSession():
        turns: Any = {"type": "server_vad", "silence_duration_ms": 350}
        speech = openai.STT(
            base_url=base_url, api_key="none", model=model, use_realtime=True, language="en",
            turn_detection=turns,
        )  # fmt: skip
        stream = speech.stream()

        async def speak() -> None:
            size = rate // 20 * 2
            for begin in range(0, len(samples), size):
                piece = samples[begin : begin + size]
                stream.push_frame(rtc.AudioFrame(piece, rate, 1, len(piece) // 2))
                await asyncio.sleep(0.05)
            await asyncio.sleep(3)
            stream.end_input()

        speaking = asyncio.ensure_future(speak())
        async for event in stream:
            text = event.alternatives[0].text if event.alternatives else ""
            language = str(event.alternatives[0].language) if event.alternatives else ""
            print(json.dumps({"type": event.type.value, "text": text, "language": language}))
            final = event.type == stt.SpeechEventType.FINAL_TRANSCRIPT
            if final and "radio" in text:
                break
        speaking.cancel()
        await stream.aclose()
        await speech.aclose()


async def _with_session() -> None:
    async with http_context.open():
        await main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])


asyncio.run(_with_session())
