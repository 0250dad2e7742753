"""The shared server on real sockets: status mapping, ids, metrics, limits, health, reflection."""

# ruff: noqa: FBT001 - pytest passes parameters by name
import asyncio
import contextlib
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from tests.serving.tiny_app import ASR_NAME, MODELS_NAME, SECRET, TinyApp
from voxroute.asr.v1 import asr_pb2, asr_pb2_grpc
from voxroute.common.v1 import common_pb2
from voxroute.models.v1 import models_pb2, models_pb2_grpc
from voxroute_serving import errors
from voxroute_serving.calls.interceptor import Phase
from voxroute_serving.errors import ServingError
from voxroute_serving.metrics import Metrics
from voxroute_serving.process.server import ListenError, ServiceServer
from voxroute_serving.process.settings import ServerSettings
from voxroute_serving.testing.served import until

Health = health_pb2.HealthCheckResponse
ERRORS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, ServingError) and kind is not ServingError
]


@dataclass
class Running:
    """A server, its app, its metrics, and a channel to it."""

    server: ServiceServer
    app: TinyApp
    metrics: Metrics
    channel: grpc.aio.Channel

    def handled(self, method: str, code: str, kind: str, service: str = ASR_NAME) -> float:
        """grpc_server_handled_total of a method and code."""
        labels = {"grpc_type": kind, "grpc_service": service, "grpc_method": method}
        return self._sample("grpc_server_handled_total", {**labels, "grpc_code": code})

    def count(self, name: str, method: str, kind: str, service: str = ASR_NAME) -> float:
        """A call metric of a method."""
        labels = {"grpc_type": kind, "grpc_service": service, "grpc_method": method}
        return self._sample(name, labels)

    def _sample(self, name: str, labels: dict[str, str]) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


@contextlib.asynccontextmanager
async def serving(*, opened: bool = True, **settings: Any) -> AsyncGenerator[Running]:
    """A server with the tiny app on a free port."""
    metrics = Metrics()
    app = TinyApp()
    settings = {"listen": ["127.0.0.1:0"], **settings}
    server = ServiceServer(app.service_names, ServerSettings(**settings), metrics)
    app.register(server.grpc)
    await server.start()
    if opened:
        server.open()
    unlimited = [("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(server.addresses[0], options=unlimited) as channel:
        try:
            yield Running(server, app, metrics, channel)
        finally:
            await server.stop()


@pytest.fixture
async def running() -> AsyncGenerator[Running]:
    """A server that takes calls."""
    async with serving() as started:
        yield started


async def messages(
    order: str = "ok", audio: int = 0, *, finish: bool = True
) -> AsyncIterator[asr_pb2.TranscribeRequest]:
    """The client's side of Transcribe."""
    yield asr_pb2.TranscribeRequest(config=asr_pb2.TranscribeConfig(model=order))
    for _ in range(audio):
        yield asr_pb2.TranscribeRequest(audio=b"xx")
    if finish:
        yield asr_pb2.TranscribeRequest(finish=common_pb2.Finish())


async def transcribe(channel: grpc.aio.Channel, order: str = "ok", **more: Any) -> list[Any]:
    """All answers of a bidirectional call.

    Where the service is to end it, nothing follows that: the client of aio reports INTERNAL of its
    own where a message is on its way then (grpcio 1.85).
    """
    more.setdefault("finish", order in {"ok", "wait"})
    call = asr_pb2_grpc.AsrServiceStub(channel).Transcribe(messages(order, **more), timeout=20)
    return [answer async for answer in call]


async def unload(channel: grpc.aio.Channel, order: str, **more: Any) -> Any:
    """The answer of a unary call."""
    stub = models_pb2_grpc.ModelServiceStub(channel)
    return await stub.UnloadModel(models_pb2.UnloadModelRequest(model=order), timeout=20, **more)


async def load(channel: grpc.aio.Channel, order: str) -> list[Any]:
    """All answers of a server stream."""
    stub = models_pb2_grpc.ModelServiceStub(channel)
    call = stub.LoadModel(models_pb2.LoadModelRequest(model=order), timeout=20)
    return [answer async for answer in call]


async def detect(channel: grpc.aio.Channel, order: str) -> Any:
    """The answer of a client stream."""

    async def requests() -> AsyncIterator[asr_pb2.DetectLanguageRequest]:
        yield asr_pb2.DetectLanguageRequest(audio=b"xx")
        yield asr_pb2.DetectLanguageRequest(config=asr_pb2.DetectLanguageConfig(model=order))

    return await asr_pb2_grpc.AsrServiceStub(channel).DetectLanguage(requests(), timeout=20)


KINDS: dict[str, tuple[Callable[..., Any], str, str]] = {
    "unary": (unload, "UnloadModel", MODELS_NAME),
    "client_stream": (detect, "DetectLanguage", ASR_NAME),
    "server_stream": (load, "LoadModel", MODELS_NAME),
    "bidi_stream": (transcribe, "Transcribe", ASR_NAME),
}


def details(error: grpc.aio.AioRpcError) -> tuple[Any, Any, Any]:
    """ErrorInfo, BadRequest and RetryInfo of a failure, None for those that are not there."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    assert status is not None
    found: list[Any] = []
    for kind in (
        error_details_pb2.ErrorInfo,
        error_details_pb2.BadRequest,
        error_details_pb2.RetryInfo,
    ):
        unpacked = [kind() for _ in status.details]
        hits = [new for new, one in zip(unpacked, status.details, strict=True) if one.Unpack(new)]
        found.append(hits[0] if hits else None)
    return found[0], found[1], found[2]


async def refused(call: Any) -> grpc.aio.AioRpcError:
    """The failure of a call."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


@pytest.mark.parametrize("kind", KINDS)
async def test_calls_of_every_kind_are_counted(kind: str, running: Running) -> None:
    """Started, handled by code, latency and messages are right for OK, abort, error and defect."""
    call, method, service = KINDS[kind]
    await call(running.channel, "ok")
    for order in ("abort", "QueueFullError", "crash"):
        await refused(call(running.channel, order))
    assert await until(lambda: running.handled(method, "INTERNAL", kind, service) == 1)
    for code in ("OK", "OUT_OF_RANGE", "RESOURCE_EXHAUSTED", "INTERNAL"):
        assert running.handled(method, code, kind, service) == 1
    assert running.count("grpc_server_started_total", method, kind, service) == 4
    assert running.count("grpc_server_handling_seconds_count", method, kind, service) == 4
    received = {"unary": 4, "server_stream": 4, "client_stream": 8, "bidi_stream": 5}[kind]
    sent = {"unary": 1, "server_stream": 5, "client_stream": 1, "bidi_stream": 5}[kind]
    assert running.count("grpc_server_msg_received_total", method, kind, service) == received
    assert running.count("grpc_server_msg_sent_total", method, kind, service) == sent


@pytest.mark.parametrize("kind", KINDS)
async def test_an_unforeseen_exception_hides_its_text(kind: str, running: Running) -> None:
    """The client gets INTERNAL and the request id, and not a word of the exception."""
    error = await refused(KINDS[kind][0](running.channel, "crash"))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert SECRET not in str(error)
    assert "RuntimeError" not in str(error)
    info, _, _ = details(error)
    assert info.domain == "voxroute"
    assert info.metadata["request_id"] in (error.details() or "")


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
async def test_each_error_keeps_its_status_and_details(
    kind: type[ServingError], running: Running
) -> None:
    """Status, reason, violations, retry advice and request id arrive as google.rpc details."""
    error = await refused(unload(running.channel, kind.__name__, metadata=[("x-request-id", "a1")]))
    info, bad_request, retry = details(error)
    assert error.code() is kind.status
    assert error.details() == "a sentence"
    assert (info.domain, info.reason) == ("voxroute", kind.reason)
    assert info.metadata["request_id"] == "a1"
    assert bad_request.field_violations[0].field == "a.b"
    assert retry.retry_delay.ToMilliseconds() == 2500


@pytest.mark.parametrize(
    ("offered", "kept"), [("job-7.a_B", True), ("x" * 65, False), ("no blanks", False)]
)
async def test_a_request_id_is_kept_or_made(offered: str, kept: bool, running: Running) -> None:
    """A fit id comes back in the initial metadata and reaches the handler; another is replaced."""
    stub = asr_pb2_grpc.AsrServiceStub(running.channel)
    call = stub.Transcribe(messages(), metadata=[("x-request-id", offered)], timeout=20)
    answers = [answer async for answer in call]
    returned = dict(await call.initial_metadata())["x-request-id"]
    assert (returned == offered) is kept
    assert returned
    assert answers[0].accepted.request_id == returned


async def test_a_cancelled_call_is_counted_and_its_handler_cancelled(running: Running) -> None:
    """Cancelling reaches the handler, counts as CANCELLED, and leaves no open call."""
    call = asr_pb2_grpc.AsrServiceStub(running.channel).Transcribe(messages("wait"))
    assert (await call.read()).HasField("accepted")
    call.cancel()
    assert await until(lambda: running.handled("Transcribe", "CANCELLED", "bidi_stream") == 1)
    assert running.app.asr.cancelled.is_set()
    assert running.server.gate.open_calls == 0


async def test_a_passed_deadline_is_counted_as_such(running: Running) -> None:
    """A call that outlives its deadline is DEADLINE_EXCEEDED on both sides."""
    stub = models_pb2_grpc.ModelServiceStub(running.channel)
    error = await refused(
        stub.UnloadModel(models_pb2.UnloadModelRequest(model="wait"), timeout=0.2)
    )
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert await until(
        lambda: running.handled("UnloadModel", "DEADLINE_EXCEEDED", "unary", MODELS_NAME) == 1
    )


async def test_a_client_that_leaves_is_told_from_one_that_forgets_finish(running: Running) -> None:
    """Ending the stream without finish is INVALID_ARGUMENT; vanishing is CANCELLED."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await transcribe(running.channel, finish=False)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    gone = grpc.aio.insecure_channel(running.server.addresses[0])
    queue: asyncio.Queue[None] = asyncio.Queue()

    async def unfinished() -> AsyncIterator[asr_pb2.TranscribeRequest]:
        yield asr_pb2.TranscribeRequest(config=asr_pb2.TranscribeConfig(model="ok"))
        await queue.get()

    call = asr_pb2_grpc.AsrServiceStub(gone).Transcribe(unfinished())
    await call.read()
    await gone.close()
    assert await until(lambda: running.handled("Transcribe", "CANCELLED", "bidi_stream") == 1)
    assert running.handled("Transcribe", "INVALID_ARGUMENT", "bidi_stream") == 1


@pytest.mark.parametrize("small_first", [True, False])
async def test_a_200_mb_message_is_refused_and_the_service_goes_on(
    small_first: bool,
    running: Running,
) -> None:
    """RESOURCE_EXHAUSTED for the one message; the same channel then works."""

    async def requests() -> AsyncIterator[asr_pb2.TranscribeRequest]:
        if small_first:
            yield asr_pb2.TranscribeRequest(config=asr_pb2.TranscribeConfig(model="ok"))
        yield asr_pb2.TranscribeRequest(audio=bytes(200_000_000))

    call = asr_pb2_grpc.AsrServiceStub(running.channel).Transcribe(requests(), timeout=60)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        _ = [answer async for answer in call]
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await transcribe(running.channel, audio=2))[-1].done.segments == 2


async def test_bytes_that_are_no_message_are_the_clients_fault(running: Running) -> None:
    """A request that cannot be decoded is INVALID_ARGUMENT, with details."""
    raw = running.channel.unary_unary(f"/{MODELS_NAME}/UnloadModel")
    error = await refused(raw(b"\xff\xff\xff"))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details(error)[0].reason == "INVALID_INPUT"


async def test_methods_that_are_left_out_or_unknown_are_unimplemented(running: Running) -> None:
    """Both are UNIMPLEMENTED; names that a client invents share one label."""
    stub = asr_pb2_grpc.AsrServiceStub(running.channel)
    call = stub.Align(iter(()))  # type: ignore[arg-type]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        _ = [answer async for answer in call]
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    error = await refused(running.channel.unary_unary("/made.Up/Thing")(b""))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert running.handled("unknown", "UNIMPLEMENTED", "unary", "unknown") == 1


@pytest.mark.parametrize("phase", [Phase.LOADING, Phase.DRAINING])
async def test_calls_are_refused_while_loading_and_draining(phase: Phase) -> None:
    """UNAVAILABLE with RetryInfo, but for health, reflection and what tells of the service."""
    async with serving(opened=False) as running:
        running.server.gate.enter(phase)
        for call, _, _ in KINDS.values():
            error = await refused(call(running.channel, "ok"))
            while error.details() == "Internal error from Core":
                # grpc.aio (1.85) says so, now and then, where a message meets the end of its call
                error = await refused(call(running.channel, "ok"))
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert details(error)[2].retry_delay.ToMilliseconds() > 0
        stub = asr_pb2_grpc.AsrServiceStub(running.channel)
        assert (await stub.GetCapabilities(asr_pb2.GetCapabilitiesRequest())).engine == "tiny"
        health = health_pb2_grpc.HealthStub(running.channel)
        answer = await health.Check(health_pb2.HealthCheckRequest())
        assert answer.status == Health.NOT_SERVING


async def test_every_watcher_sees_each_change_of_health() -> None:
    """NOT_SERVING, SERVING, NOT_SERVING for "" and each service, though another watcher left."""
    async with serving(opened=False) as running:
        stub = health_pb2_grpc.HealthStub(running.channel)
        names = ["", ASR_NAME, MODELS_NAME]
        watches = [stub.Watch(health_pb2.HealthCheckRequest(service=name)) for name in names]
        leaver = stub.Watch(health_pb2.HealthCheckRequest())
        for watch in [*watches, leaver]:
            assert (await watch.read()).status == Health.NOT_SERVING
        leaver.cancel()
        await asyncio.sleep(0.05)
        running.server.open()
        for watch in watches:
            assert (await watch.read()).status == Health.SERVING
        drain = asyncio.create_task(running.server.drain(asyncio.Event()))
        for watch in watches:
            assert (await watch.read()).status == Health.NOT_SERVING
        await drain


async def test_health_of_an_unknown_service_is_not_found(running: Running) -> None:
    """Check says NOT_FOUND; Watch says SERVICE_UNKNOWN and goes on."""
    stub = health_pb2_grpc.HealthStub(running.channel)
    error = await refused(stub.Check(health_pb2.HealthCheckRequest(service="x")))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    watch = stub.Watch(health_pb2.HealthCheckRequest(service="x"))
    assert (await watch.read()).status == Health.SERVICE_UNKNOWN


@pytest.mark.parametrize("enabled", [True, False])
async def test_reflection_lists_and_describes_the_services(enabled: bool) -> None:
    """A client with the reflection protocol alone finds names and descriptors, unless it is off."""
    async with serving(reflection=enabled) as running:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(cast("Any", running.channel))
        asked = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol=ASR_NAME),
        ]

        async def requests() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
            for one in asked:
                yield one

        if not enabled:
            # nothing is sent: grpc.aio (1.85) reports INTERNAL for a refusal during a write
            error = await refused(stub.ServerReflectionInfo().read())
            assert error.code() is grpc.StatusCode.UNIMPLEMENTED
            return
        call = stub.ServerReflectionInfo(requests())
        listed, described = [answer async for answer in call]
        names = {one.name for one in listed.list_services_response.service}
        assert {ASR_NAME, MODELS_NAME, "grpc.health.v1.Health"} <= names
        assert described.file_descriptor_response.file_descriptor_proto


async def test_an_open_call_finishes_while_the_server_drains(running: Running) -> None:
    """The open stream ends with OK, a new call is refused, and then the server stops."""
    go = asyncio.Event()

    async def requests() -> AsyncIterator[asr_pb2.TranscribeRequest]:
        async for request in messages(finish=False):
            yield request
        await go.wait()
        yield asr_pb2.TranscribeRequest(finish=common_pb2.Finish())

    call = asr_pb2_grpc.AsrServiceStub(running.channel).Transcribe(requests())
    answers = aiter(call)
    await anext(answers)
    drain = asyncio.create_task(running.server.drain(asyncio.Event()))
    await asyncio.sleep(0)
    error = await refused(unload(running.channel, "ok"))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert not drain.done()
    go.set()
    assert [answer.HasField("done") async for answer in answers][-1]
    assert await call.code() is grpc.StatusCode.OK
    await asyncio.wait_for(drain, 5)


@pytest.mark.parametrize("hurried", [False, True])
async def test_calls_that_outlive_the_drain_are_cut(hurried: bool) -> None:
    """After drain_s, or at once when hurried, an open call ends with UNAVAILABLE and RetryInfo."""
    async with serving(drain_s=60 if hurried else 0.2) as running:
        call = asr_pb2_grpc.AsrServiceStub(running.channel).Transcribe(messages("wait"))
        answers = aiter(call)
        await anext(answers)
        hurry = asyncio.Event()
        drain = asyncio.create_task(running.server.drain(hurry))
        if hurried:
            hurry.set()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            _ = [answer async for answer in answers]
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert details(caught.value)[2] is not None
        await asyncio.wait_for(drain, 5)
        await asyncio.wait_for(running.app.asr.cancelled.wait(), 5)


async def test_a_unix_socket_is_private_and_a_stale_one_replaced() -> None:
    """Mode 0600 beside a TCP port; a dead socket file is removed, a served one refused."""
    with tempfile.TemporaryDirectory(prefix="vx") as directory:
        path = Path(directory) / "s.sock"
        listen = [f"unix:{path}", "127.0.0.1:0"]
        async with serving(listen=listen) as running:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert not running.server.addresses[1].endswith(":0")
            for address in running.server.addresses:
                async with grpc.aio.insecure_channel(address) as channel:
                    await transcribe(channel)
            with pytest.raises(ListenError, match="another process serves there"):
                async with serving(listen=listen):
                    pass
            await transcribe(running.channel)
        import socket  # noqa: PLC0415 - for this one file

        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        async with serving(listen=listen) as running:
            await transcribe(running.channel)
        path.write_text("precious")
        with pytest.raises(ListenError, match="no socket"):
            async with serving(listen=listen):
                pass
        assert path.read_text() == "precious"


async def test_a_taken_port_is_an_error(running: Running) -> None:
    """Two services never share a port."""
    with pytest.raises(ListenError, match="taken"):
        async with serving(listen=running.server.addresses):
            pass


async def test_a_long_message_reaches_the_client_cut(running: Running) -> None:
    """A Hindi message of any length fits a client's limit of metadata."""
    from voxroute_serving.calls.statuses import status_of  # noqa: PLC0415

    status = status_of(errors.InvalidInputError("नमस्ते " * 5000), "a")
    assert status.message.endswith("…")
    assert status.ByteSize() < 2500
    del running


STOPPED_WITH_OPEN_CALLS = """
import asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.serving.process.test_server import asr_pb2_grpc, messages, serving

async def main():
    async with serving() as running:
        asr = asr_pb2_grpc.AsrServiceStub(running.channel)
        health = health_pb2_grpc.HealthStub(running.channel)
        calls = [asr.Transcribe(messages("wait")) for _ in range(5)]
        calls.append(health.Watch(health_pb2.HealthCheckRequest()))
        for call in calls:
            await call.read()
        await running.server.stop()

asyncio.run(main())
print("stopped")
"""


def test_a_loop_may_end_right_after_the_server_has_stopped() -> None:
    """Calls that were open at the stop leave no traceback on stderr when the loop ends."""
    done = subprocess.run(
        [sys.executable, "-c", STOPPED_WITH_OPEN_CALLS],
        cwd=Path(__file__).resolve().parents[3],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.endswith("stopped\n")
    assert "Traceback" not in done.stdout + done.stderr
    assert "_handle_exceptions" not in done.stderr
