"""The client of TranscribeLive: both ways at once, errors as the others', over when it is left."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from tests.orchestrator.live_stand_in import (
    LiveSpeech,
    Reply,
    Requests,
    accepted,
    client_of,
    committed,
    done,
    forever,
)
from tests.orchestrator.stand_in import Break, abort
from voxroute.asr.v1 import asr_pb2
from voxroute_orchestrator.client import live
from voxroute_orchestrator.client.connection import CallPolicy
from voxroute_orchestrator.client.failures import CallFailedError
from voxroute_orchestrator.errors import RefusedError, ServiceUnavailableError
from voxroute_serving.testing.served import until


async def _echo(requests: Requests, context: Any) -> AsyncIterator[Reply]:
    """Commits the size of what it hears."""
    del context
    async for request in requests:
        match request.WhichOneof("request"):
            case "config":
                yield accepted()
            case "finish":
                yield done()
            case "audio":
                yield committed(f" {len(request.audio)}")
            case kind:
                yield committed(f" {kind}")


async def test_messages_go_both_ways_at_once() -> None:
    """An answer comes while the stream is open, and the model is the client's."""
    speech = LiveSpeech(script=_echo)
    async with client_of(speech) as client:
        client.model = "base"
        async with live.call(client, asr_pb2.LiveConfig(language="hi")) as call:
            replies = call.replies()
            assert (await anext(replies)).HasField("accepted")
            texts: list[str] = []
            for send in (lambda: call.audio(b"12"), call.end_utterance, call.drop_utterance):
                assert await send()
                texts.append((await anext(replies)).committed.text)
            assert texts == [" 2", " end_utterance", " drop_utterance"]
            assert await call.finish()
            assert [reply.WhichOneof("event") async for reply in replies] == ["done"]
            assert not await call.audio(b"late")
    assert speech.requests[0].config == asr_pb2.LiveConfig(language="hi", model="base")


async def test_a_refusal_is_told_as_by_the_other_clients() -> None:
    """With its reason, whatever was being sent meanwhile."""

    async def refuses(requests: Requests, context: Any) -> AsyncIterator[Reply]:
        await anext(requests)
        refusal = Break(0, grpc.StatusCode.INVALID_ARGUMENT, message="the language is not known")
        await abort(context, refusal)
        yield done()

    async with (
        client_of(LiveSpeech(script=refuses)) as client,
        live.call(client, asr_pb2.LiveConfig()) as call,
    ):
        with pytest.raises(CallFailedError) as failure:
            async for _ in call.replies():
                pass
        assert not await call.audio(b"00")
    assert isinstance(failure.value.error, RefusedError)
    assert "the language is not known" in str(failure.value)


async def test_a_stream_that_ends_without_done_has_failed() -> None:
    """What is missing then may be text."""

    async def short(requests: Requests, context: Any) -> AsyncIterator[Reply]:
        del context
        await anext(requests)
        yield accepted()

    async with (
        client_of(LiveSpeech(script=short)) as client,
        live.call(client, asr_pb2.LiveConfig()) as call,
    ):
        with pytest.raises(CallFailedError, match="before it was done"):
            async for _ in call.replies():
                pass


async def silent(requests: Requests, context: Any) -> AsyncIterator[Reply]:
    """Takes the call, and tells nothing after that."""
    del context
    await anext(requests)
    yield accepted()
    await forever()


async def test_leaving_the_block_frees_the_service() -> None:
    """At once, in the middle of the speech."""
    speech = LiveSpeech(script=silent)
    async with client_of(speech) as client:
        async with live.call(client, asr_pb2.LiveConfig()) as call:
            await anext(call.replies())
            assert speech.open_streams == 1
        assert await until(lambda: speech.open_streams == 0, 2.0)


async def test_who_sends_waits_for_a_service_that_does_not_read() -> None:
    """Nothing piles up in the client; what has waited arrives."""
    reads = asyncio.Event()

    async def late(requests: Requests, context: Any) -> AsyncIterator[Reply]:
        del context
        await anext(requests)
        yield accepted()
        await reads.wait()
        heard = 0
        async for request in requests:
            heard += len(request.audio)
        yield committed(f"{heard}")
        yield done()

    async with (
        client_of(LiveSpeech(script=late)) as client,
        live.call(client, asr_pb2.LiveConfig()) as call,
    ):
        replies = call.replies()
        await anext(replies)
        sent = 0

        async def send() -> None:
            nonlocal sent
            for _ in range(200):
                await call.audio(bytes(64 * 1024))
                sent += 1
            await call.finish()

        sending = asyncio.ensure_future(send())
        await asyncio.sleep(0.5)
        assert sent < 100
        reads.set()
        assert (await anext(replies)).committed.text == str(200 * 64 * 1024)
        await sending


async def test_a_service_that_falls_silent_is_given_up() -> None:
    """It owes a message while it is sent audio; a stream in which nothing is sent owes none."""
    policy = CallPolicy(stall_timeout_s=0.4)
    async with (
        client_of(LiveSpeech(script=silent), policy) as client,
        live.call(client, asr_pb2.LiveConfig()) as call,
    ):
        replies = call.replies()
        await anext(replies)
        await asyncio.sleep(0.8)
        assert await call.audio(b"00")
        with pytest.raises(CallFailedError, match="has sent nothing") as failure:
            await anext(replies)
        assert isinstance(failure.value.error, ServiceUnavailableError)
        assert failure.value.retryable
