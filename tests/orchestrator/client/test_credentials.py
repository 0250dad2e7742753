"""Calls with TLS and tokens to real services: who is trusted, who is let in, and what is said."""

import asyncio
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from scripts.make_certs import SERVER_NAMES, Authority
from tests.orchestrator import recordings
from tests.serving.process.test_server import Running, serving
from tests.serving.secured import ALICE, BOB, Certificates, certificates, changes_count_at_once
from voxroute.asr.v1 import asr_pb2_grpc
from voxroute_orchestrator.client import connection, stream
from voxroute_orchestrator.client.asr import AsrClient
from voxroute_orchestrator.client.connection import CallPolicy, Endpoint, connect
from voxroute_orchestrator.client.credentials import Credentials, read_token
from voxroute_orchestrator.client.failures import CallFailedError, brief, of_rpc_error
from voxroute_orchestrator.errors import (
    RefusedError,
    ServiceUnavailableError,
    UsageError,
    VoxrouteError,
)
from voxroute_orchestrator.fleet.connect import services
from voxroute_orchestrator.fleet.needs import Needs
from voxroute_orchestrator.fleet.survey import SPEECH, survey
from voxroute_orchestrator.settings import Settings
from voxroute_orchestrator.spec import JobSpec

__all__ = ["certificates", "changes_count_at_once"]

POLICY = CallPolicy(retry_s=1.0)


def token_file(folder: Path, text: str, name: str = "token") -> Path:
    """A file with a token."""
    path = folder / name
    path.write_text(text + "\n")
    path.chmod(0o600)
    return path


async def engine(target: str, credentials: Credentials) -> str:
    """The engine's name, as the command asks for it. Raises VoxrouteError."""
    endpoint = Endpoint(SPEECH, target)
    async with connect(endpoint, POLICY, credentials) as channel:
        return (await AsrClient(endpoint, channel, POLICY).capabilities()).engine


async def failure(target: str, credentials: Credentials) -> VoxrouteError:
    """What the command would end with."""
    with pytest.raises(VoxrouteError) as caught:
        await engine(target, credentials)
    return caught.value


async def test_a_ca_or_a_scheme_turns_tls_on(certificates: Certificates) -> None:
    """host:port with tls_ca, grpcs:// and https:// meet TLS; http:// does not."""
    trusting = Credentials(tls_ca=certificates.folder / "ca.pem")
    async with serving(**certificates.settings) as running:
        address = running.server.addresses[0]
        for target in (address, f"grpcs://{address}", f"https://{address}/"):
            assert await engine(target, trusting) == "tiny"
        said = str(await failure(f"http://{address}", trusting))
        assert "grpcs://" in said
    async with serving() as running:
        address = running.server.addresses[0]
        assert await engine(f"grpc://{address}", trusting) == "tiny"
        assert "does not speak TLS" in str(await failure(address, trusting))


async def test_what_is_wrong_with_a_certificate_is_said(certificates: Certificates) -> None:
    """Unknown CA, wrong name, expired: each a sentence with what to do, and no retry."""
    ca = certificates.folder / "ca.pem"
    other = certificates.folder / "other.pem"
    other.write_bytes(Authority().cert)
    async with serving(**certificates.settings) as running:
        address = running.server.addresses[0]
        cases = {
            "tls_ca": Credentials(tls_ca=other),
            "tls_server_name": Credentials(tls_ca=ca, tls_server_name="asr.example.org"),
        }
        for words, credentials in cases.items():
            error = await failure(address, credentials)
            assert isinstance(error, ServiceUnavailableError)
            assert words in str(error)
            assert "OPENSSL" not in str(error)
        past = datetime.now(UTC) - timedelta(days=9)
        certificates.serve(
            certificates.authority.issue(*SERVER_NAMES, since=past, valid=timedelta(days=1))
        )
        assert "has expired" in str(await failure(address, Credentials(tls_ca=ca)))
        certificates.serve(certificates.authority.issue("asr.example.org"))
        named = Credentials(tls_ca=ca, tls_server_name="asr.example.org")
        assert await engine(address, named) == "tiny"


def test_a_wrong_certificate_is_not_tried_again() -> None:
    """A restart heals a closed connection, not a certificate."""

    def failed(said: str) -> CallFailedError:
        metadata = grpc.aio.Metadata()
        error = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, metadata, metadata, said)
        return of_rpc_error(error, "the service", "id")

    assert not failed(
        "handshake failed: CERTIFICATE_VERIFY_FAILED: certificate has expired"
    ).retryable
    assert failed("failed to connect to all addresses; last error: Socket closed").retryable
    assert failed("failed to connect to all addresses: Connection refused").retryable


def test_the_reason_of_a_lost_connection_is_told_once() -> None:
    """Grpc tells twice that it failed to connect; what a person needs is why."""
    twice = (
        "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:9: Failed to"
        " connect to remote host: Connection refused"
    )
    assert brief(twice) == "Connection refused"
    assert brief("no address") == "no address"


async def test_a_client_certificate_is_shown(certificates: Certificates) -> None:
    """With it the service answers; without it the sentence names the settings."""
    cert, key = certificates.authority.issue("c", common_name="c").write(
        certificates.folder, "client"
    )
    ca = certificates.folder / "ca.pem"
    async with serving(**certificates.mutual) as running:
        address = running.server.addresses[0]
        assert await engine(address, Credentials(tls_ca=ca, tls_cert=cert, tls_key=key)) == "tiny"
        assert "tls_cert" in str(await failure(address, Credentials(tls_ca=ca)))
        half = await failure(address, Credentials(tls_ca=ca, tls_cert=cert))
        assert isinstance(half, UsageError)


async def test_no_job_waits_for_a_wrong_certificate(certificates: Certificates) -> None:
    """A patient job that finds one ends at once, and not after ten minutes."""
    other = certificates.folder / "other.pem"
    other.write_bytes(Authority().cert)
    patient = Needs(
        JobSpec(), speech=True, translation=False, only_asr_endpoints=True, patience_s=600
    )
    told: list[str] = []
    async with serving(**certificates.settings) as running:
        settings = Settings(asr_endpoints=(running.server.addresses[0],), tls_ca=other)
        with pytest.raises(ServiceUnavailableError, match="tls_ca"):
            async with services(settings, patient, {}, told.append, told.append):
                pass
    assert not any("waiting" in line for line in told)


@pytest.mark.parametrize("where", ["TLS", "loopback", "socket"])
async def test_a_token_lets_in_and_is_read_anew(
    where: str, certificates: Certificates, tmp_path: Path
) -> None:
    """RefusedError for none and a wrong one; a corrected file counts for the same channel."""
    known = token_file(tmp_path, f"alice:{ALICE}", "known")
    tls: dict[str, Any] = certificates.settings if where == "TLS" else {}
    ca = certificates.folder / "ca.pem" if where == "TLS" else None
    with tempfile.TemporaryDirectory(prefix="vx") as short:  # a socket's path has 107 bytes
        listen = [f"unix:{short}/s"] if where == "socket" else ["127.0.0.1:0"]
        async with serving(client_tokens=known, listen=listen, **tls) as running:
            await _lets_in(running.server.addresses[0], ca, tmp_path)


async def _lets_in(target: str, ca: Path | None, tmp_path: Path) -> None:
    error = await failure(target, Credentials(tls_ca=ca))
    assert isinstance(error, RefusedError)
    assert error.code == 5
    assert "token_file" in str(error)
    mine = token_file(tmp_path, f"# mine\n{BOB}")
    endpoint = Endpoint(SPEECH, target)
    credentials = Credentials(tls_ca=ca, token_file=mine)
    async with connect(endpoint, POLICY, credentials) as channel:
        client = AsrClient(endpoint, channel, POLICY)
        with pytest.raises(RefusedError) as caught:
            await client.capabilities()
        assert BOB not in str(caught.value)
        token_file(tmp_path, ALICE)
        assert (await client.capabilities()).engine == "tiny"
        assert await connection.is_serving(channel)
        await _transcribes(channel)


async def _transcribes(channel: grpc.aio.Channel) -> None:
    """A stream that is written to as `client/asr.py` does it."""
    from tests.serving.process.test_server import messages  # noqa: PLC0415 - a helper of one test

    call: Any = asr_pb2_grpc.AsrServiceStub(channel).Transcribe(timeout=20)
    async for message in messages(audio=2):
        assert await stream.write(call, message)
    answers = [answer async for answer in call]
    assert answers[-1].done.segments == 2


async def test_a_token_stays_on_this_machine_without_tls(tmp_path: Path) -> None:
    """Nothing is sent to another host in the clear, unless somebody says so."""
    mine = token_file(tmp_path, ALICE)
    for target in ("asr.example.org:1", "10.0.0.1:1", "http://10.0.0.1:1", "[fd00::1]:1"):
        with pytest.raises(UsageError, match="without encryption"):
            Credentials(token_file=mine).open(target, ())
    await Credentials(token_file=mine, insecure=True).open("10.0.0.1:1", ()).close()
    await Credentials(token_file=mine).open("[::1]:1", ()).close()


async def test_a_call_that_was_ended_for_idleness_may_be_started_again() -> None:
    """The service is well; only this call's source paused for too long."""
    async with serving(idle_timeout_s=0.2) as running:
        call: Any = asr_pb2_grpc.AsrServiceStub(running.channel).Transcribe(timeout=20)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
    failed = of_rpc_error(caught.value, "the service", "id")
    assert failed.retryable
    assert "nothing happened" in str(failed)


@pytest.mark.parametrize("text", ["", "# only a comment", "two words"])
def test_a_file_without_a_token_is_an_error_of_usage(text: str, tmp_path: Path) -> None:
    """The path is named, its content is not."""
    with pytest.raises(UsageError, match="token_file") as caught:
        read_token(token_file(tmp_path, text))
    assert "two words" not in str(caught.value)


def test_settings_come_from_variables_and_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """voxroute.yaml and VOXROUTE_* name the same things."""
    config = tmp_path / "voxroute.yaml"
    config.write_text("tls_ca: ca.pem\ntls_server_name: asr\ntoken_file: t\n")
    monkeypatch.setenv("VOXROUTE_CONFIG", str(config))
    monkeypatch.setenv("VOXROUTE_TLS_CERT", "c.pem")
    settings = Settings()
    assert (settings.tls_ca, settings.tls_cert) == (Path("ca.pem"), Path("c.pem"))
    assert (settings.tls_server_name, settings.token_file) == ("asr", Path("t"))


async def test_the_survey_says_what_is_wrong_with_tls(certificates: Certificates) -> None:
    """`voxroute services` shows a reason that a person can act on."""
    async with serving(**certificates.settings) as running:
        target = f"grpcs://{running.server.addresses[0]}"
        (status,) = await survey(Settings(asr_endpoints=(target,)))
    assert "tls_ca" in (status.error or "")


async def _command(
    running: Running, folder: Path, *flags: str
) -> "subprocess.CompletedProcess[str]":
    media = recordings.write(folder / "film.wav", recordings.steps(2))
    environment = {name: value for name, value in os.environ.items() if "VOXROUTE" not in name}
    return await asyncio.to_thread(
        subprocess.run,
        [
            *(sys.executable, "-m", "voxroute_orchestrator", *flags),
            *("transcribe", str(media), "-s", "hi", "-o", str(folder / "out")),
            *("--asr-endpoint", running.server.addresses[0]),
        ],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


async def test_a_refused_token_ends_the_command_with_5(
    certificates: Certificates, tmp_path: Path
) -> None:
    """And a certificate of an unknown CA with 4; both with what to do."""
    known = token_file(tmp_path, f"alice:{ALICE}", "known")
    async with serving(client_tokens=known, **certificates.settings) as running:
        ca = ("--tls-ca", str(certificates.folder / "ca.pem"))
        wrong = token_file(tmp_path, BOB)
        done = await _command(running, tmp_path, *ca, "--token-file", str(wrong))
        assert done.returncode == 5, done.stderr
        assert "token_file" in done.stderr
        assert BOB not in done.stderr + done.stdout
        other = tmp_path / "other.pem"
        other.write_bytes(Authority().cert)
        done = await _command(running, tmp_path, "--tls-ca", str(other))
        assert done.returncode == 4, done.stderr
        assert "tls_ca" in done.stderr
