"""Slow clients, and clients that take much, beside those that do their work."""

import asyncio
import contextlib
import io
import json
import subprocess
import sys
import time
import wave
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests.serving import recordings
from tests.serving.fake_service import Process, running
from voxroute.asr.v1 import asr_pb2, asr_pb2_grpc
from voxroute.common.v1 import common_pb2
from voxroute_orchestrator.client.stream import close_writing, write
from voxroute_serving.device import places

Request = asr_pb2.TranscribeRequest
STATUS = grpc.StatusCode
OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]
SPEECH = recordings.s16le(recordings.speech(1.0))
TOKENS = {name: f"{name}-token-0123456789" for name in ("good", "bad", "worse")}


def config() -> Request:
    """Opens a transcription."""
    pcm = asr_pb2.PcmFormat(sample_rate_hz=16_000)
    vad = asr_pb2.VadOptions(disabled=True)
    audio = asr_pb2.AudioFormat(pcm=pcm)
    return Request(config=asr_pb2.TranscribeConfig(language="hi", audio=audio, vad=vad))


def bearer(name: str) -> list[tuple[str, str]]:
    """A client's token."""
    return [("authorization", f"Bearer {TOKENS[name]}")]


def reason(error: grpc.aio.AioRpcError) -> str:
    """The reason in the details of a status; "" where there is none."""
    status: Any = rpc_status.from_call(error)  # type: ignore[arg-type]
    info = error_details_pb2.ErrorInfo()
    for detail in status.details if status is not None else ():
        if detail.Unpack(info):
            return info.reason
    return ""


@contextlib.contextmanager
def service(folder: Path, *flags: str, places: int = 2) -> Generator[Process]:
    """A speech service as a process of its own."""
    with running(folder, f"--max-concurrent-calls={places}", *flags) as process:
        yield process


@contextlib.contextmanager
def with_tokens(folder: Path, *flags: str, places: int = 2) -> Generator[Process]:
    """The same, which knows three clients by their tokens."""
    tokens = folder / "tokens"
    tokens.write_text("".join(f"{name}:{token}\n" for name, token in TOKENS.items()))
    tokens.chmod(0o600)
    with service(folder, f"--client-tokens={tokens}", *flags, places=places) as process:
        yield process


@contextlib.asynccontextmanager
async def client(address: str) -> AsyncGenerator[Any]:
    """A client with a connection of its own."""
    async with grpc.aio.insecure_channel(address, OWN_CONNECTION) as channel:
        yield asr_pb2_grpc.AsrServiceStub(channel)


async def trickling(parts: bytes, every_s: float) -> AsyncIterator[Request]:
    """A config, then the same part again and again."""
    yield config()
    while True:
        yield Request(audio=parts)
        await asyncio.sleep(every_s)


async def lean(every_s: float) -> AsyncIterator[Request]:
    """A file whose bytes come at the leanest codecs' rate."""
    audio = asr_pb2.AudioFormat(container=asr_pb2.ContainerFormat())
    vad = asr_pb2.VadOptions(disabled=True)
    yield Request(config=asr_pb2.TranscribeConfig(language="hi", audio=audio, vad=vad))
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(16_000)
        sound.writeframes(bytes(64_000))
    yield Request(audio=file.getvalue()[:4096])
    while True:
        yield Request(audio=bytes(500))
        await asyncio.sleep(every_s)


async def whole(audio: bytes = SPEECH) -> AsyncIterator[Request]:
    """A recording as a client sends it that has it."""
    yield config()
    yield Request(audio=audio)
    yield Request(finish=common_pb2.Finish())


class Sending:
    """A call whose messages go as they come, and whose status is the service's whenever it ends.

    Past grpc.aio's own writing (1.85), which loses the status where that comes amid a message.
    """

    def __init__(self, stub: Any, messages: AsyncIterator[Request], **options: Any) -> None:
        self.call = stub.Transcribe(**options)
        self._sender = asyncio.ensure_future(self._send(messages))

    async def _send(self, messages: AsyncIterator[Request]) -> None:
        async for message in messages:
            if not await write(self.call, message):
                return
        await close_writing(self.call)


class Held:
    """A call that has a place; its end is awaited as a task."""

    def __init__(self, sending: Sending) -> None:
        self.sending = sending
        self.call = sending.call
        self.end = asyncio.ensure_future(self._read())

    async def _read(self) -> grpc.aio.AioRpcError:
        try:
            while await self.call.read() is not grpc.aio.EOF:
                pass
        except grpc.aio.AioRpcError as error:
            return error
        raise AssertionError("the call ended well")

    async def leave(self) -> None:
        """Ends it."""
        self.call.cancel()
        await asyncio.gather(self.end, return_exceptions=True)


async def held(stub: Any, messages: AsyncIterator[Request], **options: Any) -> Held:
    """A call that has a place."""
    sending = Sending(stub, messages, timeout=120, **options)
    assert (await sending.call.read()).HasField("accepted")
    return Held(sending)


async def transcribed(stub: Any, **options: Any) -> None:
    """One whole recording. Raises what the call raises."""
    sending = Sending(stub, whole(), timeout=60, **options)
    answers = [answer async for answer in sending.call]
    assert answers[-1].HasField("done")


async def test_a_client_that_trickles_gives_way_to_one_that_works(tmp_path: Path) -> None:
    """A byte now and then holds a place only as long as nobody else needs it."""
    with service(tmp_path) as running_service:
        async with client(running_service.address) as slow, client(running_service.address) as good:
            calls = [await held(slow, trickling(b"\0", 0.2)) for _ in range(2)]
            await transcribed(good)
            await transcribed(good)
            gone, _ = await asyncio.wait(
                {call.end for call in calls}, timeout=20, return_when=asyncio.FIRST_COMPLETED
            )
            error = gone.pop().result()
            assert (error.code(), reason(error)) == (STATUS.DEADLINE_EXCEEDED, "IDLE_STREAM")
            for call in calls:
                await call.leave()


def test_raw_samples_pay_by_what_live_ones_have() -> None:
    """An eighth of their rate at least: 64 bytes a second of samples are no live source."""
    caller = places.Caller(0.0, 64.0)
    caller.received(config())
    with caller.waiting():
        caller.received(Request(audio=bytes(4_000)))
    assert caller.owed_s == pytest.approx(-1.0, abs=0.2)
    compressed = asr_pb2.AudioFormat(container=asr_pb2.ContainerFormat())
    other = places.Caller(0.0, 64.0)
    other.received(Request(config=asr_pb2.TranscribeConfig(audio=compressed)))
    other.received(Request(audio=bytes(64)))
    assert other.owed_s == pytest.approx(-1.0, abs=0.2)


async def test_empty_messages_do_not_keep_a_place(tmp_path: Path) -> None:
    """Neither they nor a byte now and then are signs of life; the call ends by itself."""
    with service(tmp_path, "--idle-timeout-s=1") as running_service:
        async with client(running_service.address) as slow:
            for part in (b"", b"\0\0"):
                call = await held(slow, trickling(part, 0.1))
                assert reason(await call.end) == "IDLE_STREAM"


async def test_live_speech_keeps_its_place_where_all_are_taken(tmp_path: Path) -> None:
    """At real time, and in the leanest codecs' rate; a newcomer is refused at once."""
    with service(tmp_path) as running_service:
        async with client(running_service.address) as live, client(running_service.address) as late:
            calls = [
                await held(live, trickling(bytes(3200), 0.1)),
                await held(live, lean(1.0)),
            ]
            until = time.monotonic() + 4
            while time.monotonic() < until:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await transcribed(late)
                assert reason(caught.value) == "QUEUE_FULL"
                await asyncio.sleep(0.3)
            assert not any(call.end.done() for call in calls)
            for call in calls:
                await call.leave()


async def test_a_client_with_more_than_its_share_gives_way(tmp_path: Path) -> None:
    """Its youngest call ends, told why and when to come back; equal shares stay as they are."""
    with with_tokens(tmp_path, places=4) as running_service:
        async with client(running_service.address) as stub:
            live = lambda: trickling(bytes(3200), 0.1)  # noqa: E731 - short
            mine = [await held(stub, live(), metadata=bearer("bad")) for _ in range(4)]
            others = [await held(stub, live(), metadata=bearer("good")) for _ in range(2)]
            for call in mine[2:]:
                error = await call.end
                assert (error.code(), reason(error)) == (STATUS.RESOURCE_EXHAUSTED, "CLIENT_LIMIT")
                assert "bad has more than its share" in (error.details() or "")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await transcribed(stub, metadata=bearer("good"))
            assert reason(caught.value) == "QUEUE_FULL"
            await transcribed(stub, metadata=bearer("worse"))  # the third one has none yet
            gone, _ = await asyncio.wait(
                {call.end for call in [*mine[:2], *others]},
                timeout=20,
                return_when=asyncio.FIRST_COMPLETED,
            )
            assert len(gone) == 1
            for call in [*mine, *others]:
                await call.leave()


# --- 64 against 4 --------------------------------------------------------------------------------


@dataclass
class Good:
    """What became of the clients that do their work."""

    served: int = 0
    refused: int = 0
    longest_s: float = 0.0
    errors: list[str] = field(default_factory=list[str])

    async def work(self, address: str, until: float, metadata: Any) -> None:
        """Transcribes one recording after the other; what it waits is from wish to result."""
        async with client(address) as stub:
            while time.monotonic() < until:
                wished = time.monotonic()
                while True:
                    try:
                        await transcribed(stub, metadata=metadata)
                        break
                    except grpc.aio.AioRpcError as error:
                        self.refused += 1
                        if reason(error) != "QUEUE_FULL":
                            self.errors.append(f"{error.code()} {error.details()}")
                        await asyncio.sleep(0.2)
                self.served += 1
                self.longest_s = max(self.longest_s, time.monotonic() - wished)
                await asyncio.sleep(0.3)


async def hostile(address: str, metadata: Any) -> None:
    """Opens a call, trickles, and opens another as soon as it has lost that."""
    async with client(address) as stub:
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                async for _ in stub.Transcribe(
                    trickling(b"\0", 0.4), timeout=600, metadata=metadata
                ):
                    pass
            await asyncio.sleep(0.05)


# Listens on a port for each of so many addresses 127.0.1.x, and reaches the service from there.
FORWARDERS = """
import asyncio, contextlib, sys

host, port = sys.argv[1].rsplit(":", 1)

async def pipe(source, sink):
    with contextlib.suppress(OSError):
        while data := await source.read(65_536):
            sink.write(data)
            await sink.drain()
    sink.close()

async def listen(source):
    async def forward(reader, writer):
        there = await asyncio.open_connection(host, int(port), local_addr=(source, 0))
        await asyncio.gather(pipe(reader, there[1]), pipe(there[0], writer))

    server = await asyncio.start_server(forward, "127.0.0.1", 0)
    return server.sockets[0].getsockname()[1]

async def main():
    ports = [await listen(f"127.0.1.{n + 1}") for n in range(int(sys.argv[2]))]
    print(*ports, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@contextlib.contextmanager
def from_other_addresses(address: str, number: int) -> Generator[list[str]]:
    """Where to connect to, to reach the service from so many other addresses."""
    command = [sys.executable, "-c", FORWARDERS, address, str(number)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        yield [f"127.0.0.1:{port}" for port in process.stdout.readline().split()]
        process.kill()


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "who",
    [
        "one address",
        pytest.param("addresses of their own", marks=pytest.mark.slow),
        pytest.param("tokens", marks=pytest.mark.slow),
    ],
)
async def test_64_slow_clients_do_not_keep_4_others_from_their_work(
    who: str, tmp_path: Path
) -> None:
    """Every recording of the others is transcribed within seconds, whatever sets them apart."""
    seconds = 10.0
    good = Good()
    flags = with_tokens if who == "tokens" else service
    async with contextlib.AsyncExitStack() as stack:
        running_service = stack.enter_context(flags(tmp_path, places=16))
        address = running_service.address
        sources = [address] * 64
        if who == "addresses of their own":
            if sys.platform != "linux":
                pytest.skip("only Linux has all of 127.0.0.0/8")
            sources = stack.enter_context(from_other_addresses(address, 64))
        theirs = bearer("bad") if who == "tokens" else None
        ours = bearer("good") if who == "tokens" else None
        attack = [asyncio.ensure_future(hostile(source, theirs)) for source in sources]
        await asyncio.sleep(1.0)  # until they have all places
        until = time.monotonic() + seconds
        await asyncio.gather(*(good.work(address, until, ours) for _ in range(4)))
        for task in attack:
            task.cancel()
        await asyncio.gather(*attack, return_exceptions=True)
    sys.stdout.write(json.dumps({"who": who, **vars(good)}) + "\n")
    assert not good.errors
    assert good.served >= 4 * 2
    assert good.longest_s < 20, good
