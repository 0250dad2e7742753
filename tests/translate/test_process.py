"""The service as a process of its own."""

import asyncio
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from voxroute.common.v1 import common_pb2
from voxroute.translate.v1 import translate_pb2, translate_pb2_grpc

SERVICE = "voxroute.translate.v1.TranslateService"


async def start(*arguments: str) -> asyncio.subprocess.Process:
    """The service with these flags, its output captured."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "voxroute_translate", "--metrics-listen", "", "--offline",
        "--device", "cpu", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def test_the_process_serves_on_a_socket_until_it_is_told_to_stop(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """`python -m voxroute_translate` becomes SERVING, translates, and exits 0 on SIGTERM."""
    socket = tmp_path / "s"
    process = await start(
        "--listen", f"unix:{socket}", "--models", str(checkpoint("learned")),
        "--model-cache-dir", str(tmp_path / "cache"),
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = json.loads(await asyncio.wait_for(process.stdout.readline(), 60))
        assert line["event"] == "listening"
        async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(
                health_pb2.HealthCheckRequest(service=SERVICE), wait_for_ready=True, timeout=90
            )
            async for update in watch:
                if update.status == health_pb2.HealthCheckResponse.SERVING:
                    break
            watch.cancel()
            call = translate_pb2_grpc.TranslateServiceStub(channel).Translate(timeout=60)
            config = translate_pb2.TranslateConfig(source_language="hi", target_language="en")
            item = translate_pb2.TranslateItem(id="1", text="तुम कहाँ जा रहे हो?")
            await call.write(translate_pb2.TranslateRequest(config=config))
            await call.write(translate_pb2.TranslateRequest(item=item))
            assert (await call.read()).WhichOneof("event") == "accepted"
            assert (await call.read()).result.text == "Where are you going?"
            process.send_signal(signal.SIGTERM)  # with the call open: it may finish
            await asyncio.sleep(0.3)
            second = translate_pb2.TranslateItem(id="2", text="दरवाज़ा खोलो!")
            await call.write(translate_pb2.TranslateRequest(item=second))
            await call.write(translate_pb2.TranslateRequest(finish=common_pb2.Finish()))
            assert (await call.read()).result.text == "Open the door!"
            assert (await call.read()).WhichOneof("event") == "done"
        assert await asyncio.wait_for(process.wait(), 30) == 0
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--models", "/nowhere/at-all"], "nowhere"),
        (["--models", ""], "models"),
        (["--beam-size", "0"], "beam"),
        (["--device", "cuda"], "--device auto"),
    ],
)
async def test_a_start_that_fails_says_why(
    arguments: list[str], words: str, tmp_path: Path, checkpoint: Callable[[str], Path]
) -> None:
    """A wrong flag or a missing model ends the process with a message and a non-zero code."""
    defaults = ["--models", str(checkpoint("learned"))] if "--models" not in arguments else []
    process = await start("--listen", f"unix:{tmp_path}/s", *defaults, *arguments)
    _, errors = await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode not in (0, None)
    assert words in errors.decode()
    assert "Traceback" not in errors.decode()
