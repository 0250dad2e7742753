"""The job service as a process: what it keeps, whatever happens to it or to its clients."""

import hashlib
import io
import json
import signal
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import grpc
import numpy as np
import pytest
from typer.testing import CliRunner

from tests.e2e.processes import free_port
from tests.orchestrator import recordings
from tests.orchestrator.daemon import (
    Daemon,
    Services,
    artifact,
    config,
    ended,
    job,
    media,
    messages,
    stand_in_services,
    wait,
)
from voxroute.jobs.v1 import jobs_pb2
from voxroute_orchestrator.cli.app import app
from voxroute_orchestrator.errors import RefusedError
from voxroute_orchestrator.jobs.errors import DiskFullError
from voxroute_orchestrator.jobs.files import written
from voxroute_orchestrator.jobs.sound import encode
from voxroute_orchestrator.media import PcmReader, probe

SECONDS = 20
LIMIT_BYTES = 1_000_000
FILM = config(upload_name="film.wav")
Stub = Any


def _daemon(folder: Path, services: Services, *flags: str) -> Daemon:
    endpoints = (
        "--asr-endpoints", services.asr, "--translate-endpoints", services.translate,
    )  # fmt: skip
    return Daemon(folder, (*endpoints, *flags))


@pytest.fixture(scope="module")
def daemon(
    tmp_path_factory: pytest.TempPathFactory, services: Services, film: bytes
) -> Iterator[Daemon]:
    """A service that lives through the tests of this file, with a media root."""
    folder = tmp_path_factory.mktemp("daemon")
    root = folder / "media"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "film.wav").write_bytes(film)
    (folder / "secret.wav").write_bytes(film)
    (root / "link.wav").symlink_to(folder / "secret.wav")
    (root / "up").symlink_to(folder)
    running = _daemon(
        folder, services, "--media-root", str(root), "--max-upload-bytes", str(LIMIT_BYTES)
    )
    try:
        running.start()
        yield running
    finally:
        running.close()


@pytest.fixture
def stub(daemon: Daemon, services: Services) -> Stub:
    """A client; the stand-ins are fast again."""
    services.speech.delay_s = 0.0
    return daemon.stub()


def _code(error: "pytest.ExceptionInfo[grpc.RpcError]") -> grpc.StatusCode:
    return error.value.code()


def _succeeded(stub: Stub, job_id: str) -> jobs_pb2.Job:
    """The job, once it has ended, and well."""
    done = ended(stub, job_id)
    assert done.state == jobs_pb2.JOB_STATE_SUCCEEDED, done.error
    return done


def _texts(stub: Stub, job_id: str) -> list[str]:
    _succeeded(stub, job_id)
    transcript = json.loads(artifact(stub, job_id, "film.transcript.json"))
    return [segment["text"] for segment in transcript["segments"]]


def test_a_key_makes_one_job_however_often_and_at_once_it_is_submitted(
    stub: Stub, film: bytes
) -> None:
    """Eight submissions at the same time and one later: one id, one of them `created`."""

    def submit(_: int) -> jobs_pb2.SubmitJobResponse:
        return stub.SubmitJob(messages(FILM, film, key="k1"), timeout=60)

    with ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(submit, range(8)))
    replies.append(submit(8))
    assert len({reply.job.id for reply in replies}) == 1
    assert [reply.created for reply in replies].count(True) == 1
    assert _texts(stub, replies[0].job.id) == [f"word{k}" for k in range(SECONDS)]


def test_a_key_with_another_config_is_refused(stub: Stub, film: bytes) -> None:
    """INVALID_ARGUMENT, and the message names the job that has the key."""
    first = stub.SubmitJob(messages(FILM, film, key="k2"), timeout=60).job
    other = config(upload_name="film.wav", target_languages=["ta"])
    with pytest.raises(grpc.RpcError) as error:
        stub.SubmitJob(messages(other, film, key="k2"), timeout=60)
    assert _code(error) is grpc.StatusCode.INVALID_ARGUMENT
    assert first.id in str(error.value.details())


@dataclass(frozen=True)
class _Refused:
    config: jobs_pb2.JobConfig
    data: bytes
    code: grpc.StatusCode
    finish: bool = True


@pytest.mark.parametrize(
    "refused",
    [
        _Refused(FILM, bytes(LIMIT_BYTES + 1), grpc.StatusCode.RESOURCE_EXHAUSTED),
        _Refused(FILM, b"", grpc.StatusCode.INVALID_ARGUMENT),
        _Refused(FILM, b"RIFF", grpc.StatusCode.INVALID_ARGUMENT, finish=False),
        _Refused(config(), b"", grpc.StatusCode.INVALID_ARGUMENT),
        _Refused(config(upload_name="../film.wav"), b"RIFF", grpc.StatusCode.INVALID_ARGUMENT),
        _Refused(config(media_path="sub/film.wav"), b"RIFF", grpc.StatusCode.INVALID_ARGUMENT),
        _Refused(
            config(upload_name="film.wav", source_languages=["no-such-language"]),
            b"RIFF",
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        _Refused(
            config(upload_name="film.wav", asr_model="/etc"),
            b"RIFF",
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        _Refused(config(media_path="sub/none.wav"), b"", grpc.StatusCode.NOT_FOUND),
        _Refused(config(media_path="sub"), b"", grpc.StatusCode.NOT_FOUND),
        _Refused(config(media_path="../secret.wav"), b"", grpc.StatusCode.NOT_FOUND),
        _Refused(config(media_path="link.wav"), b"", grpc.StatusCode.NOT_FOUND),
        _Refused(config(media_path="up/secret.wav"), b"", grpc.StatusCode.NOT_FOUND),
        _Refused(config(media_path="/etc/passwd"), b"", grpc.StatusCode.NOT_FOUND),
    ],
)
def test_what_cannot_be_a_job_leaves_nothing_behind(
    daemon: Daemon, stub: Stub, refused: "_Refused"
) -> None:
    """Too large, empty, cut off, misnamed, or outside of the media roots: no job and no file."""
    before = sorted((daemon.data / "jobs").iterdir())
    with pytest.raises(grpc.RpcError) as error:
        stub.SubmitJob(messages(refused.config, refused.data, finish=refused.finish), timeout=60)
    assert _code(error) is refused.code, error.value.details()
    wait(lambda: not list((daemon.data / "uploads").iterdir()))
    assert sorted((daemon.data / "jobs").iterdir()) == before


def test_a_file_below_a_media_root_needs_no_upload(stub: Stub) -> None:
    """It is named by its path relative to the root."""
    submitted = stub.SubmitJob(messages(config(media_path="sub/film.wav")), timeout=60).job
    done = _succeeded(stub, submitted.id)
    assert {one.name for one in done.artifacts} >= {"film.hi.srt", "film.en.vtt"}


def test_an_artifact_is_sent_from_any_offset(stub: Stub, film: bytes) -> None:
    """The rest of the file, nothing at its end; other names and offsets are refused."""
    job_id = stub.SubmitJob(messages(FILM, film), timeout=60).job.id
    kept = next(one for one in _succeeded(stub, job_id).artifacts if one.name == "film.hi.srt")
    whole = artifact(stub, job_id, kept.name)
    assert hashlib.sha256(whole).hexdigest() == kept.sha256
    assert len(whole) == kept.bytes
    assert artifact(stub, job_id, kept.name, 100) == whole[100:]
    assert artifact(stub, job_id, kept.name, len(whole)) == b""
    assert artifact(stub, job_id, kept.name, 100, 50) == whole[100:150]
    assert artifact(stub, job_id, kept.name, 100, len(whole)) == whole[100:]
    for name, offset, code in (
        (kept.name, len(whole) + 1, grpc.StatusCode.INVALID_ARGUMENT),
        ("../journal.sqlite", 0, grpc.StatusCode.NOT_FOUND),
        ("../../../jobs.sqlite", 0, grpc.StatusCode.NOT_FOUND),
    ):
        with pytest.raises(grpc.RpcError) as error:
            artifact(stub, job_id, name, offset)
        assert _code(error) is code


def test_the_recording_of_a_job_is_sent_in_parts(stub: Stub, film: bytes) -> None:
    """An upload and a file below a media root alike, from any byte and as many as are wanted."""
    upload = stub.SubmitJob(messages(FILM, film), timeout=60).job.id
    below = stub.SubmitJob(messages(config(media_path="sub/film.wav")), timeout=60).job.id
    for job_id in (upload, below):
        file, whole = media(stub, job_id)
        assert (file.name, file.bytes, whole) == ("film.wav", len(film), film)
        assert media(stub, job_id, offset=7, length=300_000) == (file, film[7:300_007])
        assert media(stub, job_id, offset=len(film)) == (file, b"")
        with pytest.raises(grpc.RpcError) as error:
            media(stub, job_id, offset=len(film) + 1)
        assert _code(error) is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.RpcError) as error:
        media(stub, "none")
    assert _code(error) is grpc.StatusCode.NOT_FOUND


def test_the_sound_of_a_job_is_opus_on_the_recordings_own_timeline(
    daemon: Daemon, stub: Stub
) -> None:
    """Of the track that is transcribed, as long as that, silent before it begins; made once."""
    film = recordings.write(daemon.folder / "late.mkv", recordings.speech_like(9), start_s=2.0)
    job_id = stub.SubmitJob(messages(config(upload_name="late.mkv"), film.read_bytes())).job.id
    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(media, stub, job_id, sound=True) for _ in range(4)]
        (file, data), *others = [one.result(60) for one in asked]
    assert all(one == (file, data) for one in others)
    assert (file.name, file.bytes) == ("late.webm", len(data))
    assert len(list((daemon.data / "jobs" / job_id / "sound").iterdir())) == 1
    assert media(stub, job_id, sound=True, offset=9, length=99) == (file, data[9:108])
    with av.open(io.BytesIO(data)) as container:
        assert container.duration == pytest.approx(11e6, abs=50_000)
        (stream,) = container.streams
        assert stream.codec_context.name == "opus"
        loud = [
            float(frame.time or 0)
            for frame in container.decode(stream)
            if np.abs(frame.to_ndarray()).max() > 0.01
        ]
    assert loud[0] == pytest.approx(2.0, abs=0.1)


def test_a_sound_that_nobody_waits_for_is_given_up(daemon: Daemon, stub: Stub) -> None:
    """With its file; while one client waits it is made on, and DeleteJob removes it."""
    recordings.write(daemon.folder / "media" / "long.wav", recordings.speech_like(400))
    job_id = stub.SubmitJob(messages(config(media_path="long.wav")), timeout=60).job.id
    stub.CancelJob(jobs_pb2.CancelJobRequest(job_id=job_id), timeout=60)
    request = jobs_pb2.GetMediaRequest(job_id=job_id, sound=True)
    uploads, sound = daemon.data / "uploads", daemon.data / "jobs" / job_id / "sound"
    calls = [stub.GetMedia(request, timeout=60) for _ in range(2)]
    wait(lambda: list(uploads.iterdir()))
    for call in calls:
        call.cancel()
    wait(lambda: not list(uploads.iterdir()))
    assert not sound.exists()
    calls = [stub.GetMedia(request, timeout=60) for _ in range(2)]
    wait(lambda: list(uploads.iterdir()))
    calls[0].cancel()
    assert next(calls[1]).file.bytes
    assert sound.exists()
    calls[1].cancel()
    stub.DeleteJob(jobs_pb2.DeleteJobRequest(job_id=job_id), timeout=60)
    assert not sound.parent.exists()


def test_a_full_disk_ends_the_making_of_a_sound(tmp_path: Path) -> None:
    """As what it is, so that the client is told RESOURCE_EXHAUSTED."""
    path = recordings.write(tmp_path / "film.wav", recordings.speech_like(60))
    reader = PcmReader(probe(path))
    try:
        with pytest.raises(DiskFullError), written():
            encode(reader, Path("/dev/full"))
    finally:
        reader.close()


def test_what_has_no_sound_is_told(stub: Stub) -> None:
    """FAILED_PRECONDITION, not a defect."""
    job_id = stub.SubmitJob(messages(FILM, b"no film"), timeout=60).job.id
    with pytest.raises(grpc.RpcError) as error:
        media(stub, job_id, sound=True)
    assert _code(error) is grpc.StatusCode.FAILED_PRECONDITION
    assert media(stub, job_id)[1] == b"no film"


def test_a_recording_that_has_become_a_link_is_not_sent(
    daemon: Daemon, stub: Stub, film: bytes
) -> None:
    """Nor one that is gone; the sentence has no path of the host."""
    root = daemon.folder / "media"
    (root / "later.wav").write_bytes(film)
    job_id = stub.SubmitJob(messages(config(media_path="later.wav")), timeout=60).job.id
    _succeeded(stub, job_id)
    (root / "later.wav").unlink()
    for change in (lambda: None, lambda: (root / "later.wav").symlink_to(root / "../secret.wav")):
        change()
        with pytest.raises(grpc.RpcError) as error:
            media(stub, job_id)
        assert _code(error) is grpc.StatusCode.NOT_FOUND
        assert str(daemon.folder) not in str(error.value.details())


def test_a_cancelled_job_frees_the_service_and_can_be_resumed(
    services: Services, stub: Stub, film: bytes
) -> None:
    """The open call ends, what is finished is kept, and resuming ends in the whole result."""
    services.speech.delay_s = 0.3
    job_id = stub.SubmitJob(messages(FILM, film), timeout=60).job.id
    wait(lambda: services.speech.open_calls)
    cancelled = stub.CancelJob(jobs_pb2.CancelJobRequest(job_id=job_id), timeout=60).job
    assert cancelled.state == jobs_pb2.JOB_STATE_CANCELLED
    wait(lambda: not services.speech.open_calls)
    again = stub.CancelJob(jobs_pb2.CancelJobRequest(job_id=job_id), timeout=60).job
    assert again.state == jobs_pb2.JOB_STATE_CANCELLED
    services.speech.delay_s = 0.0
    queued = stub.ResumeJob(jobs_pb2.ResumeJobRequest(job_id=job_id), timeout=60).job
    assert queued.state == jobs_pb2.JOB_STATE_QUEUED
    done = _succeeded(stub, job_id)
    assert done.attempts == 2
    assert _texts(stub, job_id) == [f"word{k}" for k in range(SECONDS)]
    assert not [one.name for one in done.artifacts if "partial" in one.name]


def test_a_job_that_has_succeeded_is_done_again_only_with_restart(stub: Stub, film: bytes) -> None:
    """FAILED_PRECONDITION without it; with it the job succeeds a second time."""
    job_id = stub.SubmitJob(messages(FILM, film), timeout=60).job.id
    ended(stub, job_id)
    with pytest.raises(grpc.RpcError) as error:
        stub.ResumeJob(jobs_pb2.ResumeJobRequest(job_id=job_id), timeout=60)
    assert _code(error) is grpc.StatusCode.FAILED_PRECONDITION
    stub.ResumeJob(jobs_pb2.ResumeJobRequest(job_id=job_id, restart=True), timeout=60)
    done = ended(stub, job_id)
    assert (done.state, done.attempts) == (jobs_pb2.JOB_STATE_SUCCEEDED, 2)


def test_a_failed_job_says_why(stub: Stub) -> None:
    """Bytes that are no media: FAILED, with a sentence, and no defect."""
    job_id = stub.SubmitJob(messages(FILM, b"no film"), timeout=60).job.id
    done = ended(stub, job_id)
    assert done.state == jobs_pb2.JOB_STATE_FAILED
    assert "cannot be opened as media" in done.error


def test_a_job_that_has_ended_can_be_removed(
    daemon: Daemon, services: Services, stub: Stub, film: bytes
) -> None:
    """With its folder and its key; one that runs is refused."""
    services.speech.delay_s = 0.3
    job_id = stub.SubmitJob(messages(FILM, film, key="gone"), timeout=60).job.id
    request = jobs_pb2.DeleteJobRequest(job_id=job_id)
    with pytest.raises(grpc.RpcError) as error:
        stub.DeleteJob(request, timeout=60)
    assert _code(error) is grpc.StatusCode.FAILED_PRECONDITION
    stub.CancelJob(jobs_pb2.CancelJobRequest(job_id=job_id), timeout=60)
    services.speech.delay_s = 0.0
    done = CliRunner().invoke(app, ["jobs", "delete", job_id, "--server", daemon.target])
    assert done.exit_code == 0, done.output
    assert not (daemon.data / "jobs" / job_id).exists()
    for call in (stub.DeleteJob, stub.GetJob):
        with pytest.raises(grpc.RpcError) as error:
            call(request, timeout=60)
        assert _code(error) is grpc.StatusCode.NOT_FOUND
    again = stub.SubmitJob(messages(FILM, film, key="gone"), timeout=60)
    assert again.created
    _succeeded(stub, again.job.id)


def test_the_metrics_tell_how_jobs_ended(daemon: Daemon, stub: Stub, film: bytes) -> None:
    """A job more that has succeeded, with its stages; none is left waiting or running."""

    def value(sample: str) -> float:
        with urllib.request.urlopen(f"http://{daemon.metrics}/metrics") as page:
            lines = page.read().decode().splitlines()
        return next(float(line.split()[-1]) for line in lines if line.startswith(sample))

    ended_well = 'voxroute_jobs_ended_total{state="succeeded"}'
    routed = 'voxroute_routing_decisions_total{reason="configured",work="asr"}'
    before, decided = value(ended_well), value(routed)
    _succeeded(stub, stub.SubmitJob(messages(FILM, film), timeout=60).job.id)
    assert value(ended_well) == before + 1
    assert value(routed) == decided + 1
    assert value('voxroute_jobs{state="running"}') == 0
    assert value('voxroute_job_stage_seconds_count{stage="transcribe"}') > 0


def test_jobs_are_listed_the_newest_first_page_by_page(stub: Stub) -> None:
    """The pages together are the whole list; a token of one's own making is refused."""
    for _ in range(2):
        stub.SubmitJob(messages(FILM, b"no film"), timeout=60)
    whole = stub.ListJobs(jobs_pb2.ListJobsRequest(), timeout=30).jobs
    ids: list[str] = []
    token = ""
    while True:
        request = jobs_pb2.ListJobsRequest(page_size=2, page_token=token)
        page = stub.ListJobs(request, timeout=30)
        ids += [one.id for one in page.jobs]
        token = page.next_page_token
        if not token:
            break
    assert ids == [one.id for one in whole]
    times = [one.create_time.ToNanoseconds() for one in whole]
    assert times == sorted(times, reverse=True)
    with pytest.raises(grpc.RpcError) as error:
        stub.ListJobs(jobs_pb2.ListJobsRequest(page_token="7"), timeout=30)  # noqa: S106 - no secret
    assert _code(error) is grpc.StatusCode.INVALID_ARGUMENT


def test_the_command_submits_watches_and_fetches(
    daemon: Daemon, stub: Stub, film: bytes, tmp_path: Path
) -> None:
    """A broken download is gone on with, a damaged one begins anew, and errors have their codes."""
    del stub  # for fast stand-ins
    run = CliRunner()
    media = tmp_path / "film.wav"
    media.write_bytes(film)
    server = ["--server", daemon.target]
    submit = ["jobs", "submit", str(media), "-s", "hi", "-t", "en", "--key", "c1", "--watch"]
    done = run.invoke(app, [*submit, *server])
    assert done.exit_code == 0, done.output
    job_id = done.stdout.splitlines()[0]
    assert job_id in run.invoke(app, ["jobs", "list", *server]).stdout
    shown = json.loads(run.invoke(app, ["jobs", "show", job_id, "--json", *server]).stdout)
    for one in shown["artifacts"]:
        part = tmp_path / f".{one['name']}.{one['sha256'][:12]}.part"
        part.write_bytes(b"damaged")
    fetch = ["jobs", "fetch", job_id, "-o", str(tmp_path), *server]
    assert run.invoke(app, fetch).exit_code == 0
    for one in shown["artifacts"]:
        content = (tmp_path / one["name"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == one["sha256"]
    assert not list(tmp_path.glob(".*.part"))
    events = run.invoke(app, ["jobs", "watch", job_id, "--json", "--after", "2", *server]).stdout
    numbers = [int(json.loads(line)["sequence"]) for line in events.splitlines()]
    assert numbers == list(range(3, int(shown["last_sequence"]) + 1))
    refused = run.invoke(app, ["jobs", "retry", job_id, *server])
    assert "has not failed" in str(refused.exception)
    unknown = run.invoke(app, ["jobs", "show", "nonsense", *server]).exception
    assert isinstance(unknown, RefusedError)
    assert "no job 'nonsense'" in str(unknown)


class _Watcher:
    """Watches one job over many connections, as a client does that loses them."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.events: list[jobs_pb2.WatchJobResponse] = []

    def watch(self, stub: Stub, most: int | None = None) -> grpc.StatusCode:
        """Reads on from the last number: to the end, to a break, or so many events."""
        after = self.events[-1].sequence if self.events else 0
        request = jobs_pb2.WatchJobRequest(job_id=self.job_id, after_sequence=after)
        call = stub.WatchJob(request, timeout=120)
        try:
            for count, event in enumerate(call, start=1):
                self.events.append(event)
                if count == most:
                    call.cancel()
                    return grpc.StatusCode.CANCELLED
        except grpc.RpcError as error:
            return error.code()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType]
        return grpc.StatusCode.OK


def test_a_job_goes_on_after_sigkill_and_sigterm_and_a_watcher_misses_nothing(
    services: Services, film: bytes, tmp_path: Path
) -> None:
    """The job succeeds in its third attempt; event numbers have no gap and no repetition.

    The key of the submission still names the job, and the result is whole.
    """
    services.speech.delay_s = 0.3
    service = _daemon(tmp_path, services)
    try:
        service.start()
        stub = service.stub()
        job_id = stub.SubmitJob(messages(FILM, film, key="k"), timeout=60).job.id
        watcher = _Watcher(job_id)
        assert watcher.watch(stub, most=3) is grpc.StatusCode.CANCELLED
        wait(lambda: services.speech.open_calls)
        service.end(signal.SIGKILL)
        assert watcher.watch(stub) is grpc.StatusCode.UNAVAILABLE
        wait(lambda: not services.speech.open_calls)

        service.start()
        stub = service.stub()
        again = stub.SubmitJob(messages(FILM, film, key="k"), timeout=60)
        assert (again.job.id, again.created) == (job_id, False)
        wait(lambda: services.speech.open_calls)
        with ThreadPoolExecutor(1) as thread:
            watching = thread.submit(watcher.watch, stub)
            wait(lambda: job(stub, job_id).last_sequence == watcher.events[-1].sequence)
            assert service.end(signal.SIGTERM) == 0
            assert watching.result(60) is grpc.StatusCode.UNAVAILABLE
        wait(lambda: not services.speech.open_calls)

        services.speech.delay_s = 0.0
        service.start()
        stub = service.stub()
        assert watcher.watch(stub) is grpc.StatusCode.OK
        done = _succeeded(stub, job_id)
        assert done.attempts == 3
        assert [event.sequence for event in watcher.events] == list(
            range(1, done.last_sequence + 1)
        )
        assert watcher.events[-1].state == jobs_pb2.JOB_STATE_SUCCEEDED
        assert _texts(stub, job_id) == [f"word{k}" for k in range(SECONDS)]
        assert service.end() == 0
    finally:
        service.close()


def test_a_job_waits_for_services_that_are_away(film: bytes, tmp_path: Path) -> None:
    """It says for which, and succeeds once they are there."""
    asr, translate = (f"127.0.0.1:{free_port()}" for _ in range(2))
    flags = ("--asr-endpoints", asr, "--translate-endpoints", translate)
    service = Daemon(tmp_path, flags)
    try:
        service.start()
        stub = service.stub()
        job_id = stub.SubmitJob(messages(FILM, film), timeout=60).job.id
        watcher = _Watcher(job_id)
        with ThreadPoolExecutor(1) as thread:
            watching = thread.submit(watcher.watch, stub)
            wait(lambda: any(asr in event.message for event in watcher.events))
            assert job(stub, job_id).state == jobs_pb2.JOB_STATE_RUNNING
            with stand_in_services(asr, translate):
                _succeeded(stub, job_id)
                assert watching.result(60) is grpc.StatusCode.OK
    finally:
        service.close()


def test_a_service_with_tokens_takes_the_commands_that_have_one(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command sends the token of VOXROUTE_TOKEN_FILE; without one it is refused."""
    tokens, mine = tmp_path / "tokens", tmp_path / "mine"
    tokens.write_text("someone:" + "s" * 40 + "\n")
    mine.write_text("s" * 40 + "\n")
    for path in (tokens, mine):
        path.chmod(0o600)
    service = _daemon(tmp_path, services, "--client-tokens", str(tokens))
    try:
        service.start()
        listing = ["jobs", "list", "--server", service.target]
        refused = CliRunner().invoke(app, listing).exception
        assert isinstance(refused, RefusedError), refused
        monkeypatch.setenv("VOXROUTE_TOKEN_FILE", str(mine))
        assert CliRunner().invoke(app, listing).exit_code == 0
    finally:
        service.close()
