"""TLS, tokens, shares and idle clients, with real certificates and real connections."""

import asyncio
import os
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from scripts.make_certs import SERVER_NAMES, Authority, make
from tests.serving.captured_logs import captured_logs
from tests.serving.process.test_server import details, messages, refused, serving, unload
from tests.serving.secured import (
    ALICE,
    BOB,
    Certificates,
    bearer,
    certificates,
    changes_count_at_once,
)
from voxroute.asr.v1 import asr_pb2, asr_pb2_grpc
from voxroute.models.v1 import models_pb2, models_pb2_grpc
from voxroute_serving.calls import interceptor
from voxroute_serving.metrics import Metrics
from voxroute_serving.process.metrics_port import MetricsEndpoint
from voxroute_serving.process.server import ListenError, ServiceServer
from voxroute_serving.process.settings import ServerSettings
from voxroute_serving.security.tls import ServerTls, TlsFiles
from voxroute_serving.security.tokens import TokenFile, TokenFileError
from voxroute_serving.testing.served import until

__all__ = ["certificates", "changes_count_at_once"]

ROOT = Path(__file__).resolve().parents[3]
UNAVAILABLE, UNAUTHENTICATED = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """A file with the tokens of two clients."""
    return write(tmp_path / "tokens", f"# clients\n\nalice:{ALICE}\nbob : {BOB}\n")


def write(path: Path, text: str) -> Path:
    """Puts the text into a file that only this user can read; its path."""
    path.write_text(text)
    path.chmod(0o600)
    return path


async def capabilities(channel: grpc.aio.Channel) -> str:
    """The engine's name; a call that needs no model."""
    stub = asr_pb2_grpc.AsrServiceStub(channel)
    return (await stub.GetCapabilities(asr_pb2.GetCapabilitiesRequest(), timeout=20)).engine


# --- tokens --------------------------------------------------------------------------------------


async def call_unary(channel: grpc.aio.Channel, metadata: Any) -> Any:
    """A unary call with metadata."""
    return await unload(channel, "ok", metadata=metadata)


async def call_server_stream(channel: grpc.aio.Channel, metadata: Any) -> Any:
    """A server stream with metadata."""
    stub = models_pb2_grpc.ModelServiceStub(channel)
    request = models_pb2.LoadModelRequest(model="ok")
    return [one async for one in stub.LoadModel(request, metadata=metadata, timeout=20)]


async def call_client_stream(channel: grpc.aio.Channel, metadata: Any) -> Any:
    """A client stream with metadata."""

    async def requests() -> AsyncIterator[asr_pb2.DetectLanguageRequest]:
        yield asr_pb2.DetectLanguageRequest(config=asr_pb2.DetectLanguageConfig(model="ok"))

    stub = asr_pb2_grpc.AsrServiceStub(channel)
    return await stub.DetectLanguage(requests(), metadata=metadata, timeout=20)


async def call_bidi_stream(channel: grpc.aio.Channel, metadata: Any) -> Any:
    """A bidirectional stream with metadata."""
    stub = asr_pb2_grpc.AsrServiceStub(channel)
    return [one async for one in stub.Transcribe(messages(), metadata=metadata, timeout=20)]


async def open_client_stream(channel: grpc.aio.Channel, metadata: Any) -> Any:
    """A client stream that sends nothing.

    grpc.aio (1.85) reports INTERNAL where the service refuses a call while a message is sent.
    """
    stub: Any = asr_pb2_grpc.AsrServiceStub(channel)
    return await stub.DetectLanguage(metadata=metadata, timeout=20)


async def open_bidi_stream(channel: grpc.aio.Channel, metadata: Any) -> Any:
    """A bidirectional stream that sends nothing."""
    stub: Any = asr_pb2_grpc.AsrServiceStub(channel)
    return await stub.Transcribe(metadata=metadata, timeout=20).read()


OPENING: dict[str, Callable[[grpc.aio.Channel, Any], Any]] = {
    "unary": call_unary,
    "server_stream": call_server_stream,
    "client_stream": open_client_stream,
    "bidi_stream": open_bidi_stream,
}
KINDS: dict[str, Callable[[grpc.aio.Channel, Any], Any]] = {
    "unary": call_unary,
    "server_stream": call_server_stream,
    "client_stream": call_client_stream,
    "bidi_stream": call_bidi_stream,
}
REFUSED: dict[str, list[tuple[str, str]]] = {
    "none": [],
    "unknown": bearer("some-other-token-0123"),
    "the name": bearer("alice"),
    "no scheme": [("authorization", ALICE)],
    "another scheme": [("authorization", f"Basic {ALICE}")],
    "empty": [("authorization", "Bearer ")],
    "two": [*bearer(ALICE), *bearer(BOB)],
}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_of_any_kind_needs_a_known_token(kind: str, tokens: Path) -> None:
    """UNAUTHENTICATED with a sentence for none and for wrong ones; every known one is good."""
    async with serving(client_tokens=tokens) as running:
        for metadata in REFUSED.values():
            error = await refused(OPENING[kind](running.channel, metadata))
            assert error.code() is UNAUTHENTICATED
            assert details(error)[0].reason == "UNAUTHENTICATED"
            assert "token" in (error.details() or "") or "Bearer" in (error.details() or "")
            assert ALICE not in str(error)
        for token in (ALICE, BOB):
            assert await KINDS[kind](running.channel, bearer(token))


async def test_health_is_open_and_reflection_is_not(tokens: Path) -> None:
    """A load balancer has no token; a stranger has no business with the contracts."""
    async with serving(client_tokens=tokens) as running:
        health = health_pb2_grpc.HealthStub(running.channel)
        answer = await health.Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        assert (await refused(capabilities(running.channel))).code() is UNAUTHENTICATED

        async def requests() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
            yield reflection_pb2.ServerReflectionRequest(list_services="")

        async def silent() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
            await asyncio.Event().wait()
            yield reflection_pb2.ServerReflectionRequest()

        stub: Any = reflection_pb2_grpc.ServerReflectionStub(running.channel)  # pyright: ignore[reportArgumentType]
        # no message is on its way: grpc.aio (1.85) has a status of its own where one is
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            _ = [one async for one in stub.ServerReflectionInfo(silent())]
        assert caught.value.code() is UNAUTHENTICATED
        allowed = stub.ServerReflectionInfo(requests(), metadata=bearer(ALICE))
        assert [one async for one in allowed]


async def test_the_log_names_the_client_and_never_the_token(tokens: Path) -> None:
    """Who called can be found later; what was needed to call cannot."""
    with captured_logs() as logs:
        async with serving(client_tokens=tokens) as running:
            await call_unary(running.channel, bearer(BOB))
            await refused(call_unary(running.channel, bearer("some-other-token-0123")))
            assert await until(lambda: len([one for one in logs if one["event"] == "call"]) == 2)
    calls = [one for one in logs if one["event"] == "call"]
    assert calls[0]["client"] == "bob"
    assert "client" not in calls[1]
    assert BOB not in str(logs)
    assert "some-other" not in str(logs)


async def test_tokens_change_without_a_restart(tokens: Path) -> None:
    """Old and new are good while both stand there; what was taken out is out.

    A file that is gone or empty revokes nobody.
    """
    new = "alices-new-token-0123"
    async with serving(client_tokens=tokens) as running:
        write(tokens, f"alice:{ALICE}\nalice:{new}\n")
        await call_unary(running.channel, bearer(ALICE))
        await call_unary(running.channel, bearer(new))
        write(tokens, f"alice:{new}\nbroken line\n")
        await refused(call_unary(running.channel, bearer(ALICE)))
        await refused(call_unary(running.channel, bearer(BOB)))
        await call_unary(running.channel, bearer(new))
        await asyncio.to_thread(tokens.unlink)
        await call_unary(running.channel, bearer(new))
        write(tokens, "")
        await call_unary(running.channel, bearer(new))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no token"),
        ("# nothing\n\n", "holds no token"),
        ("alice:short\n", "line 1 has a token of fewer than 16 characters"),
        (f"a:{ALICE}\nb:{ALICE}\n", "line 2 has the token of another line"),
        (f"bad name:{ALICE}\n", "line 1 has a bad name"),
        ("alice:blanks in the token\n", "line 1 has a bad token"),
    ],
)
def test_a_bad_file_of_tokens_is_refused_at_the_start(
    text: str, words: str, tmp_path: Path
) -> None:
    """The message names the line and holds no token."""
    with pytest.raises(TokenFileError, match=words) as caught:
        TokenFile(write(tmp_path / "tokens", text))
    assert ALICE not in str(caught.value)


def test_tokens_without_names_are_named_by_their_line(tmp_path: Path) -> None:
    """A plain list of tokens works too."""
    file = TokenFile(write(tmp_path / "tokens", f"{ALICE}\n{BOB}\n"))
    assert (file.name_of(ALICE), file.name_of(BOB)) == ("line-1", "line-2")
    assert file.name_of("") is None
    assert file.name_of("नमस्ते") is None


async def test_a_missing_file_of_tokens_stops_the_start(tmp_path: Path) -> None:
    """A misspelt path must not leave the service open to all."""
    with pytest.raises(ListenError, match="cannot read"):
        async with serving(client_tokens=tmp_path / "none"):
            pass


# --- TLS -----------------------------------------------------------------------------------------


async def test_a_client_that_knows_the_ca_is_served_under_each_name(
    certificates: Certificates,
) -> None:
    """localhost, 127.0.0.1 and ::1, as `make certs` issues them; without TLS nobody is served."""
    async with serving(**certificates.settings, listen=["localhost:0"]) as running:
        port = running.server.addresses[0].rpartition(":")[2]
        for host in ("localhost", "127.0.0.1"):
            async with certificates.channel(f"{host}:{port}") as channel:
                assert await capabilities(channel) == "tiny"
        assert (await refused(capabilities(running.channel))).code() is UNAVAILABLE


def test_make_certs_writes_what_a_service_and_a_client_need(tmp_path: Path) -> None:
    """The files are read by a service as they are, and the keys are private."""
    make(tmp_path)
    ServerTls(TlsFiles(tmp_path / "server.pem", tmp_path / "server.key", tmp_path / "ca.pem"))
    ServerTls(TlsFiles(tmp_path / "client.pem", tmp_path / "client.key"))
    assert {path.stat().st_mode & 0o077 for path in tmp_path.glob("*.key")} == {0}


async def test_a_client_refuses_what_it_cannot_trust(certificates: Certificates) -> None:
    """An unknown CA, another name and an expired certificate are no service of ours."""
    past = datetime.now(UTC) - timedelta(days=9)
    async with serving(**certificates.settings) as running:
        address = running.server.addresses[0]
        cases: list[tuple[str, dict[str, Any]]] = [
            ("CERTIFICATE_VERIFY_FAILED", {"ca": Authority().cert}),
            ("Hostname", {"options": [("grpc.ssl_target_name_override", "asr.example.org")]}),
        ]
        for words, trust in cases:
            async with certificates.channel(address, **trust) as channel:
                assert words in str((await refused(capabilities(channel))).details())
        expired = certificates.authority.issue(*SERVER_NAMES, since=past, valid=timedelta(days=1))
        certificates.serve(expired)
        async with certificates.channel(address) as channel:
            assert "expired" in str((await refused(capabilities(channel))).details())


async def test_a_client_without_a_certificate_is_refused_where_one_is_asked_for(
    certificates: Certificates,
) -> None:
    """Mutual TLS: none and one of another CA get nothing; ours is named by its common name."""
    ours = certificates.authority.issue("client", common_name="subtitle-team")
    strange = Authority().issue("client", common_name="subtitle-team")
    with captured_logs() as logs:
        async with serving(**certificates.mutual) as running:
            address = running.server.addresses[0]
            for certificate in (None, strange):
                async with certificates.channel(address, certificate) as channel:
                    assert (await refused(capabilities(channel))).code() is UNAVAILABLE
            async with certificates.channel(address, ours) as channel:
                await unload(channel, "ok")
            assert await until(lambda: any(one["event"] == "call" for one in logs))
    assert [one["client"] for one in logs if one["event"] == "call"] == ["subtitle-team"]


async def test_certificates_change_under_an_open_stream(certificates: Certificates) -> None:
    """The stream goes on, new connections get the new certificate, a broken one changes nothing."""
    go = asyncio.Event()

    async def requests() -> AsyncIterator[asr_pb2.TranscribeRequest]:
        async for request in messages(audio=1, finish=False):
            yield request
        await go.wait()
        async for request in messages(audio=1):
            if not request.HasField("config"):
                yield request

    old_ca, new = certificates.authority.cert, Authority()
    async with serving(**certificates.settings) as running:
        address = running.server.addresses[0]
        async with certificates.channel(address) as channel:
            call = asr_pb2_grpc.AsrServiceStub(channel).Transcribe(requests(), timeout=60)
            answers = aiter(call)
            await anext(answers)
            certificates.serve(new.issue(*SERVER_NAMES))
            async with certificates.channel(address, ca=new.cert) as other:
                assert await capabilities(other) == "tiny"
            async with certificates.channel(address, ca=old_ca) as other:
                assert "CERTIFICATE_VERIFY_FAILED" in str(
                    (await refused(capabilities(other))).details()
                )
            (certificates.folder / "server.key").write_bytes(new.issue("x").key)  # half a renewal
            async with certificates.channel(address, ca=new.cert) as other:
                assert await capabilities(other) == "tiny"
            (certificates.folder / "server.pem").write_text("no certificate")
            async with certificates.channel(address, ca=new.cert) as other:
                assert await capabilities(other) == "tiny"
            go.set()
            assert [answer async for answer in answers][-1].done.segments == 2


@pytest.mark.parametrize("broken", ["tls_cert", "tls_key", "tls_client_ca"])
@pytest.mark.parametrize("how", ["missing", "no PEM"])
async def test_bad_certificate_files_stop_the_start(
    broken: str, how: str, certificates: Certificates
) -> None:
    """The message names the file."""
    bad = certificates.folder / "bad.pem"
    if how == "no PEM":
        bad.write_text("no PEM")
    settings: dict[str, Any] = {**certificates.mutual, broken: bad}
    with pytest.raises(ListenError, match=r"bad\.pem"):
        async with serving(opened=True, **settings):
            pass


async def test_metrics_speak_tls_and_no_silent_client_stops_them(
    certificates: Certificates,
) -> None:
    """Encrypted with the service's certificate, the new one after a change."""
    files = TlsFiles(**{k.removeprefix("tls_"): v for k, v in certificates.settings.items()})
    endpoint = MetricsEndpoint(Metrics().registry, "127.0.0.1:0", ServerTls(files))

    def scrape(ca: bytes) -> str:
        context = ssl.create_default_context(cadata=ca.decode())
        with urllib.request.urlopen(
            f"https://{endpoint.address}/metrics", context=context, timeout=20
        ) as answer:
            return answer.read().decode()

    try:
        port = int(endpoint.address.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)):  # says nothing
            assert "voxroute_ready" in await asyncio.to_thread(scrape, certificates.authority.cert)
        new = Authority()
        certificates.serve(new.issue(*SERVER_NAMES))
        assert "voxroute_ready" in await asyncio.to_thread(scrape, new.cert)
        with pytest.raises(urllib.error.URLError, match="verify"):
            await asyncio.to_thread(scrape, certificates.authority.cert)
    finally:
        await asyncio.to_thread(endpoint.close)


@pytest.mark.parametrize("flag", ["--listen", "--metrics-listen"])
def test_a_process_refuses_to_serve_others_in_the_clear(flag: str) -> None:
    """Exit code 2 and a sentence that says what to do, before anything listens."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.serving.tiny_app", "--metrics-listen=", f"{flag}=0.0.0.0:0"],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if "VOXROUTE" not in name},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("0.0.0.0:0 can be reached by others")
    assert "--tls-cert" in done.stderr
    assert not done.stdout


# --- shares and idle clients ---------------------------------------------------------------------


async def test_one_client_cannot_take_every_place(tokens: Path) -> None:
    """RESOURCE_EXHAUSTED with RetryInfo for its next call; others, and later calls, go on."""
    async with serving(client_tokens=tokens, max_calls_per_client=2) as running:
        stub = asr_pb2_grpc.AsrServiceStub(running.channel)
        held = [stub.Transcribe(messages("wait"), metadata=bearer(ALICE)) for _ in range(2)]
        for call in held:
            await call.read()
        for name, kind in KINDS.items():
            error = await refused(OPENING[name](running.channel, bearer(ALICE)))
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            info, _, retry = details(error)
            assert info.reason == "CLIENT_LIMIT"
            assert retry.retry_delay.ToMilliseconds() > 0
            assert await kind(running.channel, bearer(BOB))
        held[0].cancel()
        assert await until(lambda: running.server.gate.open_calls == 1)
        assert await call_unary(running.channel, bearer(ALICE))
        held[1].cancel()
        assert await until(lambda: running.server.gate.open_calls == 0)


async def test_clients_without_tokens_are_told_apart_by_address() -> None:
    """Connections of one host are one client, whatever their ports."""
    async with serving(max_calls_per_client=1) as running:
        stub = asr_pb2_grpc.AsrServiceStub(running.channel)
        held = stub.Transcribe(messages("wait"))
        await held.read()
        own = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(running.server.addresses[0], own) as other:
            error = await refused(unload(other, "ok"))
        assert details(error)[0].reason == "CLIENT_LIMIT"
        assert (error.details() or "").startswith("127.0.0.1 ")
        held.cancel()


async def test_a_client_that_says_nothing_loses_its_place() -> None:
    """DEADLINE_EXCEEDED with its own reason, and no call is open any more."""
    silent: asyncio.Queue[asr_pb2.TranscribeRequest] = asyncio.Queue()

    async def requests() -> AsyncIterator[asr_pb2.TranscribeRequest]:
        async for request in messages(audio=1, finish=False):
            yield request
        yield await silent.get()

    async with serving(idle_timeout_s=0.3) as running:
        call = asr_pb2_grpc.AsrServiceStub(running.channel).Transcribe(requests(), timeout=60)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            _ = [answer async for answer in call]
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert details(caught.value)[0].reason == "IDLE_STREAM"
        assert running.server.gate.open_calls == 0
        code = "DEADLINE_EXCEEDED"
        assert await until(lambda: running.handled("Transcribe", code, "bidi_stream") == 1)
        await unload(running.channel, "ok")


async def test_a_client_that_waits_for_its_result_is_not_idle() -> None:
    """The time that the service works does not count."""
    async with serving(idle_timeout_s=0.2) as running:
        call = asr_pb2_grpc.AsrServiceStub(running.channel).Transcribe(messages("wait"), timeout=60)
        await call.read()
        await asyncio.sleep(0.8)
        assert not call.done()
        call.cancel()
        assert await until(lambda: running.server.gate.open_calls == 0)


async def test_a_client_that_reads_nothing_loses_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Answers that nobody takes hold neither a place nor the handler; the status waits for them."""
    monkeypatch.setattr(interceptor, "_STATUS_S", 0.2)
    ended = asyncio.Event()

    async def flood(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        del requests, context
        try:
            while True:
                yield bytes(1 << 20)
        finally:
            ended.set()

    class Flood(grpc.GenericRpcHandler):
        def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
            name = handler_call_details.method
            return grpc.stream_stream_rpc_method_handler(flood) if name == "/a.B/C" else None

    settings = ServerSettings(listen=["127.0.0.1:0"], idle_timeout_s=0.5)
    metrics = Metrics()
    server = ServiceServer([], settings, metrics)
    server.grpc.add_generic_rpc_handlers((Flood(),))
    await server.start()
    server.open()
    try:
        async with grpc.aio.insecure_channel(server.addresses[0]) as channel:
            call = channel.stream_stream("/a.B/C")(timeout=60)
            await call.read()
            async with asyncio.timeout(30):
                await ended.wait()
                await server.gate.idle()
            labels = {"grpc_type": "bidi_stream", "grpc_service": "a.B", "grpc_method": "C"}
            code = {"grpc_code": "DEADLINE_EXCEEDED"}
            name = "grpc_server_handled_total"
            assert await until(
                lambda: metrics.registry.get_sample_value(name, labels | code) == 1  # nothing read
            )
            error = await refused(_read_to_the_end(call))
            assert details(error)[0].reason == "IDLE_STREAM"
    finally:
        await server.stop()


async def _read_to_the_end(call: Any) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass
