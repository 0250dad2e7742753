"""What people run into on an ordinary day is told at once, with what helps."""

import asyncio
import contextlib
import io
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.orchestrator.cli.test_command import Sandbox, sandbox
from tests.orchestrator.daemon import Services
from voxroute_asr_whisperx import ENGINE as WHISPERX
from voxroute_orchestrator.cli.terminal.progress import LineReporter
from voxroute_orchestrator.client.connection import CallPolicy
from voxroute_orchestrator.client.jobs import job_client
from voxroute_orchestrator.errors import ServiceUnavailableError, UsageError
from voxroute_orchestrator.job import Job
from voxroute_orchestrator.models import at_hand as models_at_hand
from voxroute_orchestrator.models.hub_access import hub_answers
from voxroute_orchestrator.settings import Settings
from voxroute_orchestrator.spec import JobSpec, time_of
from voxroute_orchestrator.subtitles import formats as subtitles
from voxroute_orchestrator.subtitles.cues import Cue
from voxroute_orchestrator.transcript import IgnoredOption
from voxroute_orchestrator.workflow.folder import JobFolder, for_this_place
from voxroute_translate import ENGINE as TRANSLATE

__all__ = ["sandbox"]

SOON_S = 3.0


@pytest.fixture
def silent() -> Iterator[str]:
    """An address where somebody listens who never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


# --- a job service that is not there


def test_jobs_without_a_service_say_soon_what_to_start(silent: str) -> None:
    """Nobody listens, nobody speaks, no such name: within 3 s, with the command that helps."""

    async def ask(address: str) -> None:
        async with job_client(address, CallPolicy()) as client:
            await client.check_there()

    with socket.create_server(("127.0.0.1", 0)) as free:
        closed = f"127.0.0.1:{free.getsockname()[1]}"
    for address in (closed, silent, "no-such-host.invalid:50050", "unix:/nowhere/jobs.sock"):
        began = time.monotonic()
        with pytest.raises(ServiceUnavailableError, match="start one with `voxroute serve"):
            asyncio.run(ask(address))
        assert time.monotonic() - began < SOON_S, address


@pytest.mark.parametrize("command", [["list"], ["submit", "film.wav"]])
def test_each_command_of_jobs_looks_for_the_service_first(
    command: list[str], sandbox: Sandbox
) -> None:
    """Exit code 4, one sentence that names the address and the flag."""
    done = sandbox.run("jobs", *command, "--server", "127.0.0.1:1")
    assert done.returncode == 4
    assert "127.0.0.1:1" in done.stderr
    assert "--server" in done.stderr
    assert len(done.stderr.splitlines()) == 1


# --- times


@pytest.mark.parametrize(
    "text", ["1:90", "1:60", "0:75:00", "1:00:60", "1:99.5", "9" * 400, "0:0:0:0"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    """Seconds and minutes behind a colon go up to 59, and no film is longer than a year."""
    with pytest.raises(UsageError, match="--start-time"):
        time_of(text, "--start-time")


@pytest.mark.parametrize(
    ("text", "at_s"), [("90", 90), ("90:00", 5400), ("1:59.5", 119.5), ("0:59:59", 3599)]
)
def test_what_is_a_time_is_taken(text: str, at_s: float) -> None:
    """Seconds alone may be any number of them, and so the first part."""
    assert time_of(text, "--start-time") == at_s


# --- warnings


def test_nobody_is_warned_of_what_nobody_has_asked_for(
    sandbox: Sandbox, services: Services
) -> None:
    """A service that makes no use of context or beams is as good as any; a transcript notes it."""
    endpoints = ["--asr-endpoint", services.asr, "--translate-endpoint", services.translate]
    done = sandbox.run(*sandbox.job(*endpoints))
    assert done.returncode == 0
    assert "is ignored" not in done.stderr
    transcript = json.loads((sandbox.out / "film.transcript.json").read_text())
    assert transcript["recognition"]["ignored_options"][0]["field"] == "decoding.beam_size"
    asked = {
        field: IgnoredOption(field=field, reason="it cannot").was_asked_for
        for field in ("item.context", "decoding.beam_size", "task", "word_timestamps", "glossary",
                      "decoding.hotwords", "vad")
    }  # fmt: skip
    assert [field for field, was in asked.items() if was] == [
        "word_timestamps", "glossary", "decoding.hotwords", "vad",
    ]  # fmt: skip


# --- subtitle files


def test_a_translation_replaces_its_own_files_and_no_others(
    sandbox: Sandbox, services: Services
) -> None:
    """Again, and with another format; but not what somebody has corrected since."""
    path = sandbox.folder / "film.hi.srt"
    path.write_text(subtitles.to_srt([Cue(0, 900, "word0")]), encoding="utf-8")
    command = [
        "translate", str(path), "-s", "hi", "-t", "en", "-o", str(sandbox.out),
        "--translate-endpoint", services.translate,
    ]  # fmt: skip
    for more in ([], ["--format", "srt,ass"]):
        done = sandbox.run(*command, *more)
        assert done.returncode == 0, done.stderr
    (sandbox.out / "film.en.srt").write_text("corrected by hand", encoding="utf-8")
    refused = sandbox.run(*command)
    assert refused.returncode == 6
    assert "film.en.srt already in" in refused.stderr
    assert "film.en.vtt" not in refused.stderr
    assert (sandbox.out / "film.en.srt").read_text() == "corrected by hand"


@pytest.mark.parametrize("encoding", ["utf-16-be", "cp1252", "shift-jis", "cp037"])
@pytest.mark.parametrize("named", [None, "ascii", "no-such-encoding"])
def test_a_file_in_another_encoding_is_told_with_the_flag_that_helps(
    named: str | None, encoding: str, tmp_path: Path
) -> None:
    """What cannot be read as it is said to be; what is read for what it is, is no error."""
    path = tmp_path / "film.srt"
    text = "1\n00:00:00,000 --> 00:00:01,000\nvu\n".encode(encoding)
    path.write_bytes(text + ("é" if encoding != "shift-jis" else "字").encode(encoding))
    with contextlib.suppress(UsageError):
        assert subtitles.read(path, encoding=named)
        return
    with pytest.raises(UsageError, match="--encoding"):
        subtitles.read(path, encoding=named)


# --- models


@pytest.fixture
def bundled(sandbox: Sandbox) -> dict[str, str]:
    """Bundled models, and neither a network nor a cache."""
    models = sandbox.folder / "models"
    for name in ("asr-tiny-hi-en", "translate-tiny-hi-en", "align-tiny-hi-en"):
        (models / name).mkdir(parents=True)
        (models / name / "config.json").write_text("{}")
    return {
        "VOXROUTE_MODELS_DIR": str(models),
        "HF_HUB_CACHE": str(sandbox.folder / "hub"),
        "HF_HUB_OFFLINE": "",
        "HF_ENDPOINT": "http://127.0.0.1:1",
    }


def flags_of(sandbox: Sandbox) -> str:
    """What the services were started with."""
    return " ".join(path.read_text() for path in sandbox.marks.iterdir())


def test_without_network_and_cache_the_bundled_models_do_the_work(
    sandbox: Sandbox, bundled: dict[str, str]
) -> None:
    """Without any flag, and said, also where all else is quiet."""
    done = sandbox.run(*sandbox.job("-q"), **bundled)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("the bundled asr-tiny-hi-en is used") == 1
    assert done.stderr.count("the bundled translate-tiny-hi-en is used") == 1
    assert "asr-tiny-hi-en" in flags_of(sandbox)
    assert "translate-tiny-hi-en" in flags_of(sandbox)


def test_a_model_that_was_named_is_replaced_by_none(
    sandbox: Sandbox, bundled: dict[str, str]
) -> None:
    """It is refused at once, with the ways out, and nothing is started."""
    done = sandbox.run(*sandbox.job("--translate-model", "acme/translator"), **bundled)
    assert done.returncode == 2, done.stderr
    assert "voxroute models pull" in done.stderr
    assert "--translate-model: the model acme/translator" in done.stderr
    assert not sandbox.pids()


def test_without_bundled_models_the_ways_out_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package without them, on a host without a network."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(models_at_hand, "bundled_models", lambda _: None)
    for choose in (
        lambda: models_at_hand.choose("", WHISPERX, "cpu", Settings()),
        lambda: models_at_hand.choose("", TRANSLATE, "cpu", Settings()),
    ):
        with pytest.raises(UsageError, match="name a directory with --"):
            choose()


def test_what_is_in_the_cache_is_taken_before_what_is_bundled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest model that is whole; one that was fetched by half does not count."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    for name, files in (
        ("Systran--faster-whisper-base", ["config.json", "model.bin"]),
        ("Systran--faster-whisper-medium", ["config.json"]),
        ("facebook--nllb-200-distilled-600M", ["config.json", "pytorch_model.bin"]),
    ):
        folder = tmp_path / f"models--{name}" / "snapshots" / ("0" * 40)
        folder.mkdir(parents=True)
        for file in files:
            (folder / file).write_text("{}")
    speech = models_at_hand.choose("", WHISPERX, "cpu", Settings())
    assert speech.models == ("base",)
    assert speech.warns
    translation = models_at_hand.choose("", TRANSLATE, "cpu", Settings())
    assert translation.models == ("facebook/nllb-200-distilled-600M",)


def test_the_hub_is_not_waited_for_long(silent: str) -> None:
    """A network that swallows everything costs the limit, no more."""
    began = time.monotonic()
    assert not hub_answers({"HF_ENDPOINT": f"http://{silent}"}, 0.5)
    assert time.monotonic() - began < SOON_S
    for endpoint in ("http://127.0.0.1:1", "ftp://hub", "http://[", "http://no-such-host.invalid"):
        assert not hub_answers({"HF_ENDPOINT": endpoint}, 2.0)
    assert not hub_answers({"HF_HUB_OFFLINE": "1"}, 2.0)


def test_a_hub_that_answers_leaves_the_choice_to_the_services(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it says: a page that is not for us is an answer too."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        monkeypatch.setenv("HF_HUB_OFFLINE", "")
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setattr(models_at_hand, "_heard", None)
        choice = models_at_hand.choose("", WHISPERX, "cpu", Settings())
        thread.join()
    assert choice.models == ()
    assert not choice.said
    # the translation is told the same, without another question
    assert models_at_hand.choose("", TRANSLATE, "cpu", Settings()).models == ()
    monkeypatch.setattr(models_at_hand, "_heard", None)


def test_a_job_prepared_for_the_bundled_models_runs_elsewhere_and_says_so_once(
    sandbox: Sandbox, services: Services, bundled: dict[str, str]
) -> None:
    """On services that have real models it is theirs that do the work."""
    prepared = sandbox.run(
        "prepare", str(sandbox.media), "--translate", "-s", "hi", "-t", "en", **bundled
    )
    assert prepared.returncode == 0, prepared.stderr
    assert "WHISPER_MODEL=asr-tiny-hi-en" in prepared.stdout
    (job,) = (sandbox.folder / "out" / "jobs").iterdir()
    file = job / f".{job.name}.env"
    file.write_text(file.read_text().replace("BACKEND=whisperx", "BACKEND=auto"))
    endpoints = {
        "VOXROUTE_ASR_ENDPOINTS": services.asr,
        "VOXROUTE_TRANSLATE_ENDPOINTS": services.translate,
    }
    services.speech.configs.clear()  # of other tests
    done = sandbox.run("run-job", "-j", job.name, **bundled, **endpoints)
    assert done.returncode == 0, done.stderr
    told = "the job was prepared for the bundled asr-tiny-hi-en and translate-tiny-hi-en"
    assert done.stderr.count(told) == 1
    assert "WHISPER_MODEL" in done.stderr
    assert services.speech.configs[-1].model == ""
    # where they are, they do the work, and nothing is said
    spec = JobSpec(asr_model="asr-tiny-hi-en", translate_model="translate-tiny-hi-en")
    here_too = Job(spec=spec, media=Path(), folder=Path())
    heard = io.StringIO()
    here = Settings(models_dir=Path(bundled["VOXROUTE_MODELS_DIR"]))
    assert for_this_place(here_too, here, JobFolder(job), LineReporter(heard)) == here_too
    assert not heard.getvalue()
