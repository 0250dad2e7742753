"""A call that a worker fetches, over a real server: nothing of it is lost, and nothing is twice."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2

from tests.orchestrator.jobs.nats_server import running
from voxroute.asr.v1 import asr_pb2
from voxroute_orchestrator.client.failures import CallFailedError
from voxroute_orchestrator.errors import DeviceMemoryError, ServiceUnavailableError
from voxroute_orchestrator.jetstream import calls, worker_calls
from voxroute_orchestrator.jetstream.access import Access
from voxroute_orchestrator.jetstream.calls import LEFT, OVER, FetchedCall, ending, packed, unpacked
from voxroute_orchestrator.jetstream.link import AwayError, Link
from voxroute_orchestrator.jetstream.setup import set_up
from voxroute_orchestrator.jetstream.workers import JobWorkers
from voxroute_orchestrator.pipeline.workers import LeftError

DONE = asr_pb2.TranscribeResponse(done=asr_pb2.Done(segments=1))


@pytest.fixture
async def link(tmp_path: Path) -> AsyncIterator[Link]:
    """A connection to a server."""
    with running(tmp_path) as server:
        link = await Link.open(Access([server.url]))
        yield link
        await link.close()


async def _messages() -> AsyncGenerator[asr_pb2.TranscribeRequest]:
    for number in range(5):
        yield asr_pb2.TranscribeRequest(audio=bytes([number]))


def _reply(number: int) -> asr_pb2.TranscribeResponse:
    return asr_pb2.TranscribeResponse(segment=asr_pb2.Segment(text=f"word{number}"))


def _told(number: int, *replies: asr_pb2.TranscribeResponse, **more: Any) -> bytes:
    head = json.dumps({"tell": number} | more).encode()
    return head + b"\n" + packed([reply.SerializeToString() for reply in replies])


async def _begun(
    link: Link, messages: AsyncGenerator[asr_pb2.TranscribeRequest] | None = None
) -> FetchedCall[asr_pb2.TranscribeResponse]:
    call = FetchedCall(
        link,
        messages or _messages(),
        asr_pb2.TranscribeResponse,
        lambda reply: reply.HasField("done"),
        service="the worker",
        request_id="r1",
    )

    async def answer(data: bytes) -> bytes:
        line, _, body = data.partition(b"\n")
        return await call.answer(json.loads(line), body)

    await link.serve(call.name, answer)
    return call


async def _heard(
    call: FetchedCall[asr_pb2.TranscribeResponse], before: Callable[[], Any] = lambda: None
) -> list[str]:
    found: list[str] = []
    async for reply in call.replies():
        before()
        found.append(reply.segment.text)
    return found


def test_messages_are_unpacked_as_they_were_packed() -> None:
    """Also none, and empty ones; half a one is refused."""
    for messages in ([], [b""], [b"a", b"", b"b" * 70_000]):
        assert unpacked(packed(messages)) == messages
    with pytest.raises(ValueError, match="half"):
        unpacked(b"\0\0")


async def test_a_message_that_the_server_does_not_take_ends_the_call_with_the_reason(
    link: Link,
) -> None:
    """At once, where its silence would be taken for that of the worker."""

    async def messages() -> AsyncGenerator[asr_pb2.TranscribeRequest]:
        yield asr_pb2.TranscribeRequest(audio=bytes(link.most_bytes))

    call = await _begun(link, messages())
    hearing = asyncio.ensure_future(_heard(call))
    assert await link.ask(call.name, json.dumps({"get": 0}).encode() + b"\n") == OVER
    with pytest.raises(CallFailedError, match="the NATS server takes 1048576; raise its max_payl"):
        await asyncio.wait_for(hearing, 2)


async def test_a_question_that_is_asked_again_is_answered_the_same(link: Link) -> None:
    """Its answer was lost: no message is left out, and no answer of the service is told twice."""
    call = await _begun(link)
    hearing = asyncio.ensure_future(_heard(call))
    got: list[bytes | None] = []
    for number in range(6):
        asked = json.dumps({"get": number}).encode() + b"\n"
        once, again = [await link.ask(call.name, asked) for _ in range(2)]
        assert once == again
        got.append(once)
    assert [asr_pb2.TranscribeRequest.FromString(one or b"").audio for one in got[:-1]] == [
        bytes([number]) for number in range(5)
    ]
    assert got[-1] == b""
    for number in range(3):
        for _ in range(2):
            assert await link.ask(call.name, _told(number, _reply(number))) == b""
    assert await link.ask(call.name, _told(3, DONE, end={"code": "OK"})) == b""
    assert await hearing == ["word0", "word1", "word2", ""]
    await call.end()
    assert await link.ask(call.name, _told(4)) == OVER


async def test_what_is_told_is_answered_once_it_was_dealt_with(link: Link) -> None:
    """A worker that has an answer knows that its windows are kept."""
    call = await _begun(link)
    replies = call.replies()
    telling = asyncio.ensure_future(link.ask(call.name, _told(0, _reply(0))))
    assert (await anext(replies)).segment.text == "word0"
    await asyncio.sleep(0.2)
    assert not telling.done()
    following = asyncio.ensure_future(anext(replies))
    assert await telling == b""
    following.cancel()
    await asyncio.wait([following])
    waiting = asyncio.ensure_future(link.ask(call.name, _told(1, _reply(1))))
    await asyncio.sleep(0.2)
    await call.end()  # nobody waits for it any more
    assert await waiting == OVER


def _refusal(reason: str) -> grpc.aio.AioRpcError:
    info = error_details_pb2.ErrorInfo(reason=reason, domain="voxroute")
    status = status_pb2.Status(code=8, message="too small")
    status.details.add().Pack(info)
    trailing = grpc.aio.Metadata(("grpc-status-details-bin", status.SerializeToString()))
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details="too small")


@pytest.mark.parametrize(
    ("end", "error", "retryable"),
    [
        (ending(_refusal("OUT_OF_MEMORY")), DeviceMemoryError, False),
        ({"code": "UNAVAILABLE", "details": "gone", "trailing": {}}, ServiceUnavailableError, True),
        ({"code": "OK"}, ServiceUnavailableError, True),  # and was not done
    ],
)
async def test_a_call_ends_as_that_of_the_service_has(
    link: Link, end: dict[str, Any], error: type[Exception], *, retryable: bool
) -> None:
    """With what came before, and with the details that tell what to do."""
    call = await _begun(link)
    hearing = asyncio.ensure_future(_heard(call))
    await link.ask(call.name, _told(0, _reply(0), end=end))
    with pytest.raises(CallFailedError) as failed:
        await hearing
    assert isinstance(failed.value.error, error)
    assert failed.value.retryable is retryable
    await call.end()


async def test_a_worker_that_is_silent_or_leaves_gives_its_span_back(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who leaves, or never came to know of its span, has not failed at it."""
    assert worker_calls.BEAT_S + 2 < calls.SILENT_S
    monkeypatch.setattr(calls, "SILENT_S", 0.5)
    monkeypatch.setattr(calls, "_LOOK_S", 0.1)
    asks: Sequence[tuple[bytes | None, type[Exception], bool]] = (
        (json.dumps({"get": 0}).encode() + b"\n", CallFailedError, False),
        (_told(0, end={"code": LEFT}), LeftError, True),
        (None, LeftError, True),
    )
    for asked, error, left in asks:
        call = await _begun(link)
        hearing = asyncio.ensure_future(_heard(call))
        if asked is not None:
            await link.ask(call.name, asked)
        with pytest.raises(error) as failed:
            await hearing
        assert isinstance(failed.value, LeftError) is left
        await call.end()


async def test_who_asks_about_a_call_that_is_over_is_sent_away(link: Link) -> None:
    """At once, by whoever does the job; once that has ended, nobody answers."""
    await set_up(link, 1)
    workers = JobWorkers(link, "a", "")
    await workers.recognisers.offer(1)
    asked = json.dumps({"call": "gone", "get": 0}).encode()
    assert await link.ask("vr.work.a", asked) == OVER
    await workers.close()
    assert await link.ask("vr.work.a", asked) is None


async def test_nobody_and_no_answer_are_told_apart(link: Link) -> None:
    """At once where nobody is there."""
    assert await link.ask("vr.work.none", b"") is None

    async def never(_: bytes) -> bytes:
        await asyncio.sleep(60)
        return b""

    stop = await link.serve("vr.work.hangs", never)
    with pytest.raises(AwayError, match="nobody answers"):
        await link.ask("vr.work.hangs", b"")
    await stop()
