"""Two runs that would write the same results: one of them is refused, and told by whom."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.orchestrator import recordings
from tests.orchestrator.cli.test_command import Sandbox, sandbox
from tests.orchestrator.daemon import Services, wait
from voxroute_orchestrator.errors import OutputError
from voxroute_orchestrator.files import claimed
from voxroute_orchestrator.pipeline.journal import SqliteJournal
from voxroute_orchestrator.subtitles import formats as subtitles

__all__ = ["sandbox"]  # the fixture

HOLDS = """
import sys, time
from pathlib import Path
from voxroute_orchestrator.files import claimed
with claimed(Path(sys.argv[1]), "film"):
    print("has it", flush=True)
    time.sleep(60)
"""


def _job(sandbox: Sandbox, services: Services, *more: str) -> list[str]:
    endpoints = ("--asr-endpoint", services.asr, "--translate-endpoint", services.translate)
    return sandbox.job(*endpoints, *more)


def _lock(sandbox: Sandbox, title: str = "film") -> Path:
    return sandbox.out / f".{title}.voxroute-lock"


def test_one_title_of_a_folder_is_for_one_run_at_a_time(tmp_path: Path) -> None:
    """Other titles and other folders are free; nothing is left, whatever ended the run."""
    with claimed(tmp_path, "film"):
        with pytest.raises(OutputError, match="another voxroute"), claimed(tmp_path, "film"):
            pass
        with claimed(tmp_path, "other"), claimed(tmp_path / "new", "film"):
            pass
        with pytest.raises(OutputError, match="another voxroute"), claimed(tmp_path, "film"):
            pass
    with pytest.raises(ZeroDivisionError), claimed(tmp_path, "film"):
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.rglob("*")] == ["new"]


def test_a_killed_run_blocks_no_other(tmp_path: Path) -> None:
    """The other is named by its process while it lives; after SIGKILL its lock is worth nothing."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline()
        told = rf"process {holder.pid}\) .* -o"
        with pytest.raises(OutputError, match=told), claimed(tmp_path, "film"):
            pass
        holder.kill()
    assert (tmp_path / ".film.voxroute-lock").is_file()
    with claimed(tmp_path, "film"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_second_run_at_the_same_time_is_refused(sandbox: Sandbox, services: Services) -> None:
    """Exit code 6 and the first one's process id; the first has its results whole.

    So with --overwrite and --resume too: neither means what another run is at work on.
    """
    services.speech.delay_s = 5.0
    with sandbox.start(*_job(sandbox, services)) as first:
        wait(lambda: list(sandbox.out.glob(".*journal")))
        for more in (["--overwrite"], ["--resume"]):
            second = sandbox.run(*_job(sandbox, services, *more))
            assert second.returncode == 6
            assert f"process {first.pid})" in second.stderr
            assert "Traceback" not in second.stderr
        services.speech.delay_s = 0.0
        _, err = first.communicate(timeout=120)
    assert first.returncode == 0, err
    cues = subtitles.read(sandbox.out / "film.hi.srt")
    assert [cue.text for cue in cues] == [f"word{k}" for k in range(20)]
    assert not [path for path in sandbox.out.iterdir() if path.name.startswith(".")]


def test_a_killed_run_is_gone_on_with_at_once(sandbox: Sandbox, services: Services) -> None:
    """SIGKILL in the middle of the work; --resume needs no hand to remove anything."""
    services.speech.delay_s = 5.0
    with sandbox.start(*_job(sandbox, services)) as killed:
        wait(lambda: list(sandbox.out.glob(".*journal")))
        killed.send_signal(signal.SIGKILL)
        killed.communicate(timeout=60)
    assert _lock(sandbox).is_file()
    services.speech.delay_s = 0.0
    done = sandbox.run(*_job(sandbox, services, "--resume"))
    assert done.returncode == 0, done.stderr
    assert (sandbox.out / "film.en.srt").is_file()
    assert not _lock(sandbox).exists()


def test_of_a_batch_only_what_another_run_makes_is_refused(
    sandbox: Sandbox, services: Services
) -> None:
    """The item fails with a sentence, the others are done, the exit code is the item's."""
    services.speech.delay_s = 0.0
    other = recordings.write(sandbox.folder / "other.wav", recordings.steps(3))
    with claimed(sandbox.out, "film"):
        done = sandbox.run(*_job(sandbox, services, str(other)))
    assert done.returncode == 6
    assert "another voxroute (process" in done.stderr
    table = [line.split("\t") for line in done.stdout.splitlines() if "\t" in line]
    assert [row[1] for row in table] == ["failed", "done"]
    assert (sandbox.out / "other.en.srt").is_file()


def test_translating_a_file_waits_for_no_run_either(sandbox: Sandbox, services: Services) -> None:
    """`voxroute translate` writes the same names as a run; exit code 6, nothing written."""
    (sandbox.folder / "film.hi.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nword1\n")
    with claimed(sandbox.out, "film"):
        done = sandbox.run(
            "translate", "film.hi.srt", "-s", "hi", "-t", "en", "-o", str(sandbox.out),
            "--translate-endpoint", services.translate,
        )  # fmt: skip
    assert done.returncode == 6
    assert "another voxroute (process" in done.stderr
    assert not list(sandbox.out.iterdir())


def test_a_journal_is_for_its_owner_only(tmp_path: Path) -> None:
    """It holds what was said; one of an earlier version that others could read is closed too."""
    path = tmp_path / ".film.voxroute-journal"
    for _ in range(2):
        with SqliteJournal(path) as journal:
            asyncio.run(journal.keep_fact("a", 1))
            modes = {p.name: p.stat().st_mode & 0o777 for p in tmp_path.iterdir()}
            assert modes == {f"{path.name}{suffix}": 0o600 for suffix in ("", "-wal", "-shm")}
        path.chmod(0o644)
