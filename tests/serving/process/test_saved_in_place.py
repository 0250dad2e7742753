"""Files of tokens and certificates that are saved in place: empty for a moment, then half there."""

import asyncio
import os
import time
from pathlib import Path

import grpc
import pytest

from scripts.make_certs import SERVER_NAMES, Authority
from tests.serving.captured_logs import captured_logs
from tests.serving.process.test_server import refused, serving
from tests.serving.secured import ALICE, BOB, Certificates, bearer
from tests.serving.security.test_security import write
from voxroute.asr.v1 import asr_pb2, asr_pb2_grpc
from voxroute_orchestrator.client.credentials import Credentials, read_token
from voxroute_serving.security import watched as files
from voxroute_serving.security.tokens import TokenFile, TokenFileError
from voxroute_serving.security.watched import Look, Watched

SETTLE_S = 0.3
NEW = "carols-token-0123456789"


@pytest.fixture(autouse=True)
def settling_is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second for each change would be long for a test."""
    monkeypatch.setattr(files, "SETTLE_S", SETTLE_S)


async def settled() -> None:
    """Returns once what was written counts."""
    await asyncio.sleep(SETTLE_S + 0.1)


async def engine(channel: grpc.aio.Channel, token: str) -> str:
    """A call with a token."""
    stub = asr_pb2_grpc.AsrServiceStub(channel)
    request = asr_pb2.GetCapabilitiesRequest()
    return (await stub.GetCapabilities(request, metadata=bearer(token), timeout=20)).engine


async def test_a_good_client_is_served_while_its_tokens_are_saved_200_times(tmp_path: Path) -> None:
    """Each time the file is empty, then ends in the middle of a token, then is whole again."""
    text = f"alice:{ALICE}\nbob:{BOB}\n"
    path = write(tmp_path / "tokens", text)
    cut = len(text) - len(BOB) // 2  # what is left of the token is long enough to be one

    async def save() -> None:
        with path.open("w") as file:
            await asyncio.sleep(0.004)
            file.write(text[:cut])
            file.flush()
            await asyncio.sleep(0.004)
            file.write(text[cut:])

    async with serving(client_tokens=path) as running:
        done = asyncio.Event()

        async def call() -> int:
            served = 0
            while not done.is_set():
                assert await engine(running.channel, BOB) == "tiny"
                served += 1
            return served

        calls = asyncio.create_task(call())
        for _ in range(200):
            await save()
        done.set()
        assert await calls > 50
        await refused(engine(running.channel, BOB[: len(BOB) // 2 + 1]))


@pytest.mark.parametrize("text", [f"alice:{ALICE}\nbob:{BOB[:18]}", "", "alice:", None])
def test_half_a_file_of_tokens_takes_nobody_out(text: str | None, tmp_path: Path) -> None:
    """Fewer lines, a shorter token, nothing, no file at all: until it has been left alone."""
    path = write(tmp_path / "tokens", f"alice:{ALICE}\nbob:{BOB}\n")
    tokens = TokenFile(path)
    if text is None:
        path.unlink()
    else:
        write(path, text)
    for _ in range(3):
        assert (tokens.name_of(ALICE), tokens.name_of(BOB)) == ("alice", "bob")
        assert tokens.name_of(BOB[:18]) is None


def test_a_pipe_in_the_place_of_the_tokens_keeps_nobody_waiting(tmp_path: Path) -> None:
    """Nobody may ever write to it; the tokens that were there stay good."""
    path = write(tmp_path / "tokens", f"alice:{ALICE}\n")
    tokens = TokenFile(path)
    path.unlink()
    os.mkfifo(path)
    for _ in range(3):
        assert tokens.name_of(ALICE) == "alice"
    with pytest.raises(TokenFileError, match="no regular file"):
        TokenFile(path)


async def test_what_is_added_is_good_at_once_and_what_is_taken_out_is_out_soon(
    tmp_path: Path,
) -> None:
    """Whoever adds a token and calls with it is served; a revoked one is refused a second later."""
    path = write(tmp_path / "tokens", f"alice:{ALICE}\n")
    tokens = TokenFile(path)
    write(path, f"carol:{NEW}\n")
    assert (tokens.name_of(NEW), tokens.name_of(ALICE)) == ("carol", "alice")
    await settled()
    assert (tokens.name_of(NEW), tokens.name_of(ALICE)) == ("carol", None)


async def test_the_first_call_after_a_quiet_day_meets_the_file_as_it_is(tmp_path: Path) -> None:
    """Nobody looked while the file settled: its own time of change tells that it has."""
    path = write(tmp_path / "tokens", f"alice:{ALICE}\n")
    tokens = TokenFile(path)
    write(path, f"carol:{NEW}\n")
    await settled()
    assert tokens.name_of(ALICE) is None


@pytest.mark.parametrize("text", ["", "# nobody any more\n", "alice:short\n", None])
async def test_a_file_without_a_token_revokes_nobody(text: str | None, tmp_path: Path) -> None:
    """However long it stays so; the log has one error, not one for each call."""
    path = write(tmp_path / "tokens", f"alice:{ALICE}\n")
    tokens = TokenFile(path)
    if text is None:
        path.unlink()
    else:
        write(path, text)
    with captured_logs() as logs:
        for _ in range(3):
            assert tokens.name_of(ALICE) == "alice"
            await settled()
    kept = [line for line in logs if line["event"] == "the tokens stay as they were"]
    assert [line["log_level"] for line in kept] == ["error"]
    write(path, f"carol:{NEW}\n")
    await settled()
    assert (tokens.name_of(NEW), tokens.name_of(ALICE)) == ("carol", None)


async def test_a_new_token_of_the_same_size_and_time_counts(tmp_path: Path) -> None:
    """As `rsync --inplace --times` leaves it: only the time of the last change tells."""
    path = write(tmp_path / "tokens", f"alice:{ALICE}\n")
    tokens = TokenFile(path)
    before = path.stat()
    other = ALICE[::-1]
    with path.open("r+") as file:
        file.write(f"alice:{other}\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (
        before.st_size, before.st_mtime_ns, before.st_ino
    )  # fmt: skip
    await settled()
    assert (tokens.name_of(other), tokens.name_of(ALICE)) == ("alice", None)


@pytest.mark.parametrize("how", ["rename", "link"])
async def test_a_file_that_is_replaced_whole_counts(how: str, tmp_path: Path) -> None:
    """By a rename, and behind a symbolic link as Kubernetes swaps secrets."""
    first = write(tmp_path / "first", f"alice:{ALICE}\n")
    second = write(tmp_path / "second", f"carol:{NEW}\n")
    link = tmp_path / "tokens"
    link.symlink_to(first)
    tokens = TokenFile(link)
    if how == "rename":
        second.replace(first)
    else:
        (tmp_path / "swap").symlink_to(second)
        (tmp_path / "swap").replace(link)
    await settled()
    assert (tokens.name_of(NEW), tokens.name_of(ALICE)) == ("carol", None)


@pytest.mark.parametrize("at_s", [-3600, 3600])
def test_a_clock_that_differs_from_the_file_system_does_not_matter(
    at_s: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time of change in the future, or the clock set back: two looks at the same tell as well.

    A file system that is behind makes every change look old, and settled.
    """
    path = write(tmp_path / "tokens", "a")
    watched = Watched([path])
    write(path, "bc")
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now + at_s * 10**9)
    if at_s < 0:
        assert watched.look() is Look.MOVING
        time.sleep(SETTLE_S + 0.1)
    assert watched.look() is Look.SETTLED
    assert watched.take()
    assert watched.look() is Look.SAME


def test_what_changes_while_it_is_read_is_not_taken(tmp_path: Path) -> None:
    """The bytes may be of both; the next look finds them changed."""
    path = write(tmp_path / "tokens", "a")
    watched = Watched([path])
    write(path, "bc")
    time.sleep(SETTLE_S + 0.1)
    assert watched.look() is Look.SETTLED
    write(path, "def")
    assert not watched.take()
    assert watched.look() is Look.MOVING


async def test_half_a_chain_of_certificates_is_not_served(tmp_path: Path) -> None:
    """A certificate fits its key without those that lead to its CA: only time tells that half."""
    certificates = Certificates(tmp_path)
    new = Authority()
    with captured_logs() as logs:
        async with serving(**certificates.settings) as running:
            address = running.server.addresses[0]
            certificates.serve(new.issue(*SERVER_NAMES))
            for ca, wait in ((certificates.authority.cert, False), (new.cert, True)):
                if wait:
                    await settled()
                async with certificates.channel(address, ca=ca) as channel:
                    assert await engine(channel, "") == "tiny"
    assert not [line for line in logs if line["event"] == "the certificates stay as they were"]


async def test_the_command_sends_its_token_while_that_is_saved(tmp_path: Path) -> None:
    """An empty moment of its token_file ends no job; another token is sent once it has settled."""
    known = write(tmp_path / "tokens", f"alice:{ALICE}\ncarol:{NEW}\n")
    mine = write(tmp_path / "mine", ALICE)
    with captured_logs() as logs:
        async with serving(client_tokens=known) as running:
            opened = Credentials(token_file=mine).open(running.server.addresses[0], ())
            async with opened as channel:
                stub = asr_pb2_grpc.AsrServiceStub(channel)
                for text in ("", NEW[:18], NEW):
                    mine.write_text(text)
                    await stub.GetCapabilities(asr_pb2.GetCapabilitiesRequest(), timeout=20)
                await settled()
                await stub.GetCapabilities(asr_pb2.GetCapabilitiesRequest(), timeout=20)
    clients = [line["client"] for line in logs if line["event"] == "call"]
    assert clients == ["alice", "alice", "alice", "carol"]
    assert read_token(mine) == NEW
