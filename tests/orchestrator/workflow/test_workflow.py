"""The two-step workflow: prepare writes a job folder, the run obeys it; memory that runs out."""

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import grpc
import pytest

from tests.orchestrator.cli.test_command import ROOT, Sandbox, sandbox
from tests.orchestrator.fleet.test_routing import (
    BROKEN_DRIVER,
    M1_PRO,
    M1_PRO_WITHOUT_MLX,
    RTX_3090,
)
from tests.orchestrator.stand_in import Break, Speech, Translation, serving
from voxroute_orchestrator.errors import UsageError
from voxroute_orchestrator.fleet.hardware import Host
from voxroute_orchestrator.spec import JobSpec, time_of
from voxroute_orchestrator.subtitles import formats as subtitles
from voxroute_orchestrator.workflow.folder import (
    JobConfig,
    JobFile,
    JobFolder,
    job_of,
    read_config,
)

__all__ = ["sandbox"]  # the fixture of the command's own tests

CONFIG = {
    "WHISPERX_DEVICE": "cpu",
    "WHISPER_BACKEND": "whisperx",
    "WHISPER_MODEL": "large-v3",
    "WHISPER_COMPUTE_TYPE": "int8",
    "BATCH_SIZE": "4",
    "INDICTRANS2_DEVICE": "cpu",
    "SOURCE_LANGUAGE": "hi",
    "TARGET_LANGUAGE": "en",
}
OUT_OF_MEMORY = "OUT_OF_MEMORY"


def _script(
    sandbox: Sandbox, name: str, *arguments: str, **more: str
) -> "subprocess.CompletedProcess[str]":
    """Runs one of the scripts as a person types it, in the folder of the film."""
    environment = sandbox.environment | {
        "VOXROUTE_WORK_DIR": str(sandbox.folder / "work"),
        "HF_ENDPOINT": "http://127.0.0.1:1",
    }
    return subprocess.run(
        [ROOT / name, *arguments],
        env=environment | more,
        cwd=sandbox.folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _prepared(sandbox: Sandbox, *arguments: str) -> JobFolder:
    done = _script(sandbox, "prepare-job.sh", "film.wav", *arguments)
    assert done.returncode == 0, done.stderr
    (line,) = (text for text in done.stdout.splitlines() if text.startswith("Job: "))
    return JobFolder(sandbox.folder / "work" / "jobs" / line.removeprefix("Job: "))


def _edit(folder: JobFolder, **values: str) -> None:
    """Changes lines of the job's file, as a person does in an editor."""
    lines = folder.env_file.read_text().splitlines()
    for name, value in values.items():
        (at,) = (k for k, line in enumerate(lines) if line.startswith(f"{name}="))
        lines[at] = f"{name}={value}"
    folder.env_file.write_text("\n".join(lines))


def _flags(sandbox: Sandbox, kind: str) -> str:
    """The flags that the last service of a kind was started with."""
    return max(sandbox.marks.glob(f"{kind}.*.pid"), key=lambda p: p.stat().st_mtime).read_text()


def test_the_commands_of_the_workflow_make_subtitles(sandbox: Sandbox) -> None:
    """Prepare, then run: subtitles of both languages in the job's folder, the log in its words."""
    job = _prepared(sandbox, "--translate", "--source-language", "hi", "--target-language", "en")
    assert json.loads(job.job_file.read_text())["schema"] == "voxroute.job/1"
    assert set(CONFIG) == set(read_config(job.env_file).model_dump())
    done = _script(sandbox, "run-pipeline.sh", "-j", job.job_id)
    assert done.returncode == 0, done.stderr
    texts = [cue.text for cue in subtitles.read(job.path / "film.en.srt")]
    assert texts[:2] == ["en:word0", "en:word1"]
    assert (job.path / "film.hi.srt").is_file()
    for said in (done.stderr, job.log_file.read_text()):
        assert "Configured device: cpu (from job config)" in said
        assert "Configured backend: whisperx (from job config)" in said
        assert "Transcription completed: 20 segments" in said
        assert "Stage asr: COMPLETED (" in said
    assert not sandbox.living()


def test_a_transcription_job_starts_no_translation(sandbox: Sandbox) -> None:
    """--transcribe -s hi gives one language, between the wanted times, on the film's own clock."""
    job = _prepared(sandbox, "--transcribe", "-s", "hi", "--start-time", "0:05", "--end-time", "12")
    done = _script(sandbox, "run-pipeline.sh", "-j", job.job_id, "--log-level", "error")
    assert done.returncode == 0, done.stderr
    assert "Stage" not in done.stderr
    cues = subtitles.read(job.path / "film.hi.srt")
    assert [cue.text for cue in cues] == [f"word{k}" for k in range(5, 12)]
    assert cues[0].start_ms == 5000
    assert len(sandbox.pids()) == 1


def test_editing_the_file_changes_what_runs_and_other_jobs_do_not(sandbox: Sandbox) -> None:
    """Batch size, model and type reach the service; an older job keeps its own."""
    old = _prepared(sandbox, "--transcribe", "-s", "hi")
    edited = _prepared(sandbox, "--transcribe", "-s", "hi")
    model = sandbox.folder / "another-model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    _edit(edited, BATCH_SIZE="3", WHISPER_MODEL=str(model), WHISPER_COMPUTE_TYPE="float32")
    assert old.job_id != edited.job_id
    done = _script(sandbox, "run-pipeline.sh", "-j", edited.job_id)
    assert done.returncode == 0, done.stderr
    flags = _flags(sandbox, "asr")
    assert "--max-batch 3" in flags
    assert f"--model {model}" in flags
    assert "--compute-type float32" in flags
    before = read_config(old.env_file)
    assert _script(sandbox, "run-pipeline.sh", "-j", old.job_id).returncode == 0
    assert f"--max-batch {before.BATCH_SIZE}" in _flags(sandbox, "asr")
    assert "--compute-type int8" in _flags(sandbox, "asr")


def _n_kept(journal: Path) -> int:
    """Windows that are in a journal that another process writes."""
    if not journal.exists():
        return 0
    with contextlib.closing(sqlite3.connect(journal)) as database:
        try:
            return int(database.execute("SELECT count(*) FROM windows").fetchone()[0])
        except sqlite3.OperationalError:  # its tables are being made
            return 0


def test_a_killed_run_is_resumed_without_its_first_part(sandbox: Sandbox) -> None:
    """After SIGKILL --resume goes on from what was written down; each second is there once."""
    job = _prepared(sandbox, "--translate", "-s", "hi", "-t", "en")
    environment = {"VOXROUTE_WORK_DIR": str(sandbox.folder / "work")}
    process = sandbox.start("run-job", "-j", job.job_id, STAND_IN_DELAY_S="0.4", **environment)
    until = time.monotonic() + 60
    while not _n_kept(job.journal):
        assert time.monotonic() < until
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    done = _script(sandbox, "run-pipeline.sh", "-j", job.job_id, "--resume")
    assert done.returncode == 0, done.stderr
    kept = int(done.stderr.split("Resuming: ")[1].split()[0])
    assert 0 < kept < 20
    texts = [cue.text for cue in subtitles.read(job.path / "film.hi.srt")]
    assert texts == [f"word{k}" for k in range(20)]
    transcript = json.loads((job.path / "film.transcript.json").read_text())
    items = transcript["translations"]["en"]["items"]
    assert [item["segment_id"] for item in items] == list(range(1, 21))
    again = _script(sandbox, "run-pipeline.sh", "-j", job.job_id, "--resume")
    assert "is complete" in again.stdout


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"WHISPERX_DEVICE": "gpu"}, "WHISPERX_DEVICE=gpu: Input should be 'auto', 'mps'"),
        ({"BATCH_SIZE": "many"}, "BATCH_SIZE=many"),
        ({"BATCH_SIZE": "0"}, "greater than or equal to 1"),
        ({"TARGET_LANGUAGE": "en,klingonese"}, '"klingonese" is no language'),
        ({"WHISPER_MODEL": ""}, "WHISPER_MODEL"),
        ({"WHISPER_MODLE": "base"}, "WHISPER_MODLE is no setting; there are"),
    ],
)
def test_wrong_values_are_named(change: dict[str, str], words: str, tmp_path: Path) -> None:
    """Each wrong value is told by its name, with what it may be."""
    path = tmp_path / ".job.env"
    path.write_text("".join(f"{k}={v}\n" for k, v in (CONFIG | change).items()))
    with pytest.raises(UsageError) as caught:
        read_config(path)
    assert words in str(caught.value)


def test_the_file_is_parsed_with_quotes_comments_and_no_substitution(tmp_path: Path) -> None:
    """Quoted values, comments, `export` and `$` are as in any .env file."""
    path = tmp_path / ".job.env"
    text = "".join(f"{k}={v}\n" for k, v in CONFIG.items() if k != "WHISPER_MODEL")
    path.write_text(f"# mine\n\nexport WHISPER_MODEL='/models/$HOME a'  # a folder\n{text}")
    assert read_config(path).WHISPER_MODEL == "/models/$HOME a"
    for more, words in (
        ("what is this\n", "is no NAME=VALUE"),
        ("WHISPER_MODEL='open\n", "is no NAME=VALUE"),
        ("BATCH_SIZE=2\nWHISPER_MODEL=base\n", "sets BATCH_SIZE twice"),
    ):
        path.write_text(text + more)
        with pytest.raises(UsageError, match=words):
            read_config(path)
    path.write_text(text)
    with pytest.raises(UsageError, match="WHISPER_MODEL is missing"):
        read_config(path)


@pytest.mark.parametrize(
    ("text", "seconds"), [("", None), ("90", 90.0), ("1:30", 90.0), ("01:00:01.5", 3601.5)]
)
def test_times_are_read_as_people_write_them(text: str, seconds: float | None) -> None:
    """Seconds, M:SS and H:MM:SS; anything else is refused."""
    assert time_of(text, "--start-time") == seconds
    for wrong in ("soon", "1:2:3:4", "-3", "1:"):
        with pytest.raises(UsageError, match="H:MM:SS"):
            time_of(wrong, "--start-time")


def test_usage_errors_of_the_workflow_say_what_to_do(sandbox: Sandbox) -> None:
    """No target, an end before the start, no such job: exit 2 and a sentence."""
    for name, arguments, words in (
        ("prepare-job.sh", ("film.wav", "--translate", "-s", "hi"), "--target-language"),
        ("prepare-job.sh", ("film.wav", "--start-time", "9", "--end-time", "3"), "later than"),
        ("prepare-job.sh", ("film.wav", "--start-time", "9:00"), "beyond the end"),
        ("run-pipeline.sh", ("-j", "../x"), "there is no job"),
    ):
        done = _script(sandbox, name, *arguments)
        assert done.returncode == 2, done.stderr
        assert words in done.stderr


class _Told:
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def stage(self, name: str, total_s: float | None) -> None:
        del name, total_s

    def advance(self, name: str, done_s: float) -> None:
        del name, done_s

    def finish(self, name: str) -> None:
        del name

    def say(self, text: str) -> None:
        self.lines.append(text)

    def warn(self, text: str) -> None:
        self.lines.append(text)


@pytest.mark.parametrize(
    ("host", "edited", "expected", "words"),
    [
        (M1_PRO, "mps mlx float16", ("mps", "mlx", "float16"),
         ["Using MLX-Whisper for MPS acceleration"]),
        (M1_PRO, "mps whisperx float16", ("cpu", "whisperx", ""),
         ["MPS device detected but MLX backend not configured",
          "Falling back to CPU (slower performance)"]),
        (M1_PRO_WITHOUT_MLX, "mps mlx float16", ("cpu", "whisperx", ""),
         ["Falling back to CPU (slower performance)"]),
        (RTX_3090, "cuda whisperx float16", ("cuda", "whisperx", "float16"), []),
        (RTX_3090, "cpu whisperx float16", ("cpu", "whisperx", "int8"), ["int8 is used"]),
        (BROKEN_DRIVER, "auto auto auto", ("auto", "auto", ""), []),
    ],
)  # fmt: skip
def test_the_log_says_what_the_job_config_leads_to(
    host: Host, edited: str, expected: tuple[str, str, str], words: list[str]
) -> None:
    """Device and backend of the file are obeyed, and the fallbacks are said in the known words."""
    device, backend, compute_type = edited.split()
    changed = {
        "WHISPERX_DEVICE": device,
        "WHISPER_BACKEND": backend,
        "WHISPER_COMPUTE_TYPE": compute_type,
    }
    config = JobConfig.model_validate(CONFIG | changed)
    job = JobFile(
        schema="voxroute.job/1", job_id="j", created_at="", voxroute_version="0",
        workflow="translate", media="film.wav", media_bytes=1, asked=JobSpec(),
    )  # fmt: skip
    told = _Told()
    spec = job_of(JobFolder(Path("j")), job, config, host, told).spec
    assert (spec.device, spec.backend, spec.compute_type) == expected
    assert told.lines[:2] == [
        f"Configured device: {device} (from job config)",
        f"Configured backend: {backend} (from job config)",
    ]
    said = "\n".join(told.lines)
    assert all(sentence in said for sentence in words)
    assert ("Falling back" in said) == any("Falling back" in sentence for sentence in words)


@pytest.mark.parametrize("second", ["configured", "local"])
async def test_a_full_device_hands_the_rest_to_the_next_service(
    second: str, sandbox: Sandbox
) -> None:
    """Out of memory after seven segments: another service, else a local CPU one, does the rest."""
    full = Break(7, grpc.StatusCode.RESOURCE_EXHAUSTED, None, "no room", reason=OUT_OF_MEMORY)
    breaks = [full]  # of whichever is asked first
    services = Speech(breaks=breaks), Speech(breaks=breaks)
    async with serving(services[0]) as one, serving(services[1]) as other:
        endpoints = ["--endpoint", one]
        endpoints += ["--endpoint", other] if second == "configured" else []
        done = await asyncio.to_thread(sandbox.run, *sandbox.job(*endpoints))
    assert done.returncode == 0, done.stderr
    texts = [cue.text for cue in subtitles.read(sandbox.out / "film.hi.srt")]
    assert texts == [f"word{k}" for k in range(20)]
    transcript = json.loads((sandbox.out / "film.transcript.json").read_text())
    (warning,) = (w for w in transcript["warnings"] if w["code"] == "OUT_OF_MEMORY_FALLBACK")
    assert "no room" in warning["message"]
    assert len(transcript["translations"]["en"]["items"]) == 20
    if second == "configured":
        asked = [config.resume_from.seconds for one in services for config in one.configs]
        assert sorted(asked) == [0, 7]
        assert all(one.configs for one in services)
    else:
        assert "--device cpu" in _flags(sandbox, "asr")


async def test_a_translation_out_of_memory_goes_on_elsewhere(sandbox: Sandbox) -> None:
    """Both languages go on with one local CPU service; every cue is translated once, in order."""
    full = [
        Break(n, grpc.StatusCode.RESOURCE_EXHAUSTED, None, "no room", reason=OUT_OF_MEMORY)
        for n in (4, 2)
    ]
    async with serving(translation=Translation(breaks=full)) as address:
        arguments = sandbox.job("--translate-endpoint", address)
        done = await asyncio.to_thread(sandbox.run, *arguments)
    assert done.returncode == 0, done.stderr
    transcript = json.loads((sandbox.out / "film.transcript.json").read_text())
    for target in ("en", "ta"):
        items = transcript["translations"][target]["items"]
        assert [item["segment_id"] for item in items] == list(range(1, 21))
    assert [w["code"] for w in transcript["warnings"]] == ["OUT_OF_MEMORY_FALLBACK"]
    assert len(list(sandbox.marks.glob("translate.*"))) == 1
    assert "--device cpu" in _flags(sandbox, "translate")


async def test_without_another_service_the_finished_part_is_kept(sandbox: Sandbox) -> None:
    """Where every service is out of memory, the job fails with what is finished, and says why."""
    full = [
        Break(n, grpc.StatusCode.RESOURCE_EXHAUSTED, None, "no room", reason=OUT_OF_MEMORY)
        for n in (7, 0)
    ]
    async with serving(Speech(breaks=full)) as address:
        arguments = sandbox.job("--endpoint", address)
        done = await asyncio.to_thread(sandbox.run, *arguments, STAND_IN_TOO_SMALL="cpu")
    assert done.returncode == 5, done.stderr
    assert "out of memory" in done.stderr
    cues = subtitles.read(sandbox.out / "film.hi.partial.srt")
    assert [cue.text for cue in cues] == [f"word{k}" for k in range(7)]


def test_a_service_that_is_too_big_to_start_is_replaced(sandbox: Sandbox) -> None:
    """Out of memory while the GPU's service loads: the CPU's does the work, with a warning."""
    program = sandbox.folder / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'NVIDIA GTX 1650, 4096, 100'\n")
    program.chmod(0o755)
    done = sandbox.run(
        *sandbox.job(),
        STAND_IN_TOO_SMALL="cuda",
        PATH=f"{program.parent}:{os.environ['PATH']}",
    )
    assert done.returncode == 0, done.stderr
    assert "--device cpu" in _flags(sandbox, "asr")
    transcript = json.loads((sandbox.out / "film.transcript.json").read_text())
    assert [w["code"] for w in transcript["warnings"]] == ["OUT_OF_MEMORY_FALLBACK"]
    assert not sandbox.living()


def test_route_explains_every_candidate(sandbox: Sandbox) -> None:
    """The choice first, then each other one with its place or the reason against it."""
    done = sandbox.run("route", "--explain", "-s", "hi", "-t", "en", "--backend", "whisperx")
    assert done.returncode == 0, done.stderr
    assert "speech: voxroute_asr_whisperx on cpu" in done.stdout
    assert "voxroute_asr_mlx on mps: whisperx is asked for, and this is mlx" in done.stdout
    assert "voxroute_asr_whisperx on cuda: no NVIDIA GPU" in done.stdout
    assert "translation: voxroute_translate on cpu" in done.stdout
    none = sandbox.run("route", "--device", "mps", "--backend", "whisperx")
    assert none.returncode == 4
    down = sandbox.run("route", "--explain", "--endpoint", "127.0.0.1:1")
    assert down.returncode == 4
    assert "cannot be reached" in down.stdout
