"""The command as a process: results, exit codes, signals, and what is left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import av
import psutil
import pytest

from tests import forking
from tests.orchestrator import recordings
from tests.orchestrator.daemon import wait
from voxroute_orchestrator.subtitles import formats as subtitles
from voxroute_orchestrator.subtitles.cues import Cue

ROOT = Path(__file__).resolve().parents[3]
STAND_INS = ROOT / "tests" / "orchestrator" / "stand_ins"


@dataclass
class Sandbox:
    """A folder with a recording, and the stand-in services in place of the real ones."""

    folder: Path
    media: Path
    environment: dict[str, str]

    @property
    def marks(self) -> Path:
        """Where the stand-ins leave their process ids."""
        return self.folder / "marks"

    @property
    def out(self) -> Path:
        """Where the results go."""
        return self.folder / "out"

    def start(self, *arguments: str, **more: str) -> "subprocess.Popen[str]":
        """Starts the command."""
        return subprocess.Popen(
            [sys.executable, "-m", "voxroute_orchestrator", *arguments],
            env=self.environment | more,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **more: str) -> forking.Done:
        """Runs the command to its end."""
        return forking.run(
            "voxroute_orchestrator",
            *arguments,
            environment=self.environment | more,
            folder=self.folder,
            timeout=120,
        )

    def job(self, *more: str) -> list[str]:
        """The arguments of the usual job."""
        return ["run", str(self.media), "-s", "hi", "-t", "en,ta", "-o", str(self.out), *more]

    def pids(self) -> list[int]:
        """The processes of all services that were ever started here."""
        return [int(path.name.split(".")[1]) for path in self.marks.glob("*.pid")]

    def living(self) -> list[int]:
        """Those that still run."""
        return [
            pid
            for pid in self.pids()
            if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        ]

    def left(self) -> list[Path]:
        """Temporary folders that are still there."""
        return list((self.folder / "t").iterdir())


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    """A fresh folder."""
    for name in ("marks", "t", "home"):
        (tmp_path / name).mkdir()
    media = recordings.write(tmp_path / "film.wav", recordings.steps(20))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("VOXROUTE_")}
    environment |= {
        "PYTHONPATH": f"{STAND_INS}:{ROOT}",
        "STAND_IN_DIR": str(tmp_path / "marks"),
        "TMPDIR": str(tmp_path / "t"),
        "HOME": str(tmp_path / "home"),
        "XDG_CONFIG_HOME": str(tmp_path / "home"),
        "VOXROUTE_LOCAL_IDLE_S": "0",
        # the stand-in says a word a second; each is to be a cue of its own
        "VOXROUTE_SUBTITLES__MIN_MS": "500",
    }
    return Sandbox(tmp_path, media, environment)


def test_a_run_writes_every_result_and_leaves_nothing_behind(sandbox: Sandbox) -> None:
    """Subtitles in three languages and the transcript; the services and their folder are gone."""
    done = sandbox.run(*sandbox.job())
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in sandbox.out.iterdir()) == [
        "film.en.srt", "film.en.vtt", "film.hi.srt", "film.hi.vtt",
        "film.run.json", "film.ta.srt", "film.ta.vtt", "film.transcript.json",
    ]  # fmt: skip
    cues = subtitles.read(sandbox.out / "film.hi.srt")
    assert [cue.text for cue in cues] == [f"word{k}" for k in range(20)]
    english = [cue.text for cue in subtitles.read(sandbox.out / "film.en.vtt")]
    assert english[4:7] == ["en:word4", "[untranslated: word5]", "en:word6"]
    assert "1 could not be translated" in done.stdout
    assert "1 are doubtful" in done.stdout
    assert str(sandbox.out / "film.en.srt") in done.stdout
    assert "slow with large models" in done.stderr
    transcript = json.loads((sandbox.out / "film.transcript.json").read_text())
    assert transcript["schema"] == "voxroute.transcript/1"
    assert transcript["complete"]
    assert len(sandbox.pids()) == 2
    assert not sandbox.living()
    assert not sandbox.left()


def test_a_second_run_replaces_its_own_results_only(sandbox: Sandbox) -> None:
    """Results of an earlier run are replaced; a file of somebody else's is not."""
    sandbox.out.mkdir()
    (sandbox.out / "film.en.srt").write_text("made by hand")
    refused = sandbox.run(*sandbox.job())
    assert refused.returncode == 6
    assert "--overwrite" in refused.stderr
    assert (sandbox.out / "film.en.srt").read_text() == "made by hand"
    assert sandbox.run(*sandbox.job("--overwrite")).returncode == 0
    assert sandbox.run(*sandbox.job("--quiet")).returncode == 0


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_run_keeps_what_is_finished(
    number: signal.Signals, code: int, sandbox: Sandbox
) -> None:
    """Partial files with every finished segment, the exit code of the signal, no orphans."""
    process = sandbox.start(*sandbox.job(), STAND_IN_DELAY_S="0.4")
    wait(lambda: len(sandbox.pids()) == 2)
    time.sleep(4)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "partial" in err
    cues = subtitles.read(sandbox.out / "film.hi.partial.srt")
    assert [cue.text for cue in cues] == [f"word{k}" for k in range(len(cues))]
    assert not (sandbox.out / "film.hi.srt").exists()
    assert not sandbox.living()
    assert not sandbox.left()


def test_nohup_keeps_a_run(sandbox: Sandbox) -> None:
    """A hangup that is ignored from the start interrupts nothing; the results are whole."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = sandbox.start(*sandbox.job(), STAND_IN_DELAY_S="0.1")
    finally:
        signal.signal(signal.SIGHUP, before)
    wait(lambda: len(sandbox.pids()) == 2)
    time.sleep(0.5)
    process.send_signal(signal.SIGHUP)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert (sandbox.out / "film.en.srt").is_file()


def test_sigkill_leaves_no_orphans(sandbox: Sandbox) -> None:
    """When the command itself is killed, its services end too."""
    process = sandbox.start(*sandbox.job(), STAND_IN_DELAY_S="0.4")
    wait(lambda: len(sandbox.living()) == 2)
    time.sleep(1)
    process.kill()
    process.communicate(timeout=60)
    wait(lambda: not sandbox.living(), 20)


def test_a_service_that_is_killed_is_started_again_and_the_job_goes_on(sandbox: Sandbox) -> None:
    """The speech service dies by SIGKILL after five segments; the result is whole all the same."""
    done = sandbox.run(*sandbox.job(), STAND_IN_CRASH_AFTER="5")
    assert done.returncode == 0, done.stderr
    assert "by signal SIGKILL" in done.stderr
    cues = subtitles.read(sandbox.out / "film.hi.srt")
    assert [cue.text for cue in cues] == [f"word{k}" for k in range(20)]
    assert len(sandbox.pids()) == 3
    assert not sandbox.living()


def test_a_service_that_does_not_start_says_why(sandbox: Sandbox) -> None:
    """What it wrote is shown, the other service is stopped, the exit code is 4."""
    done = sandbox.run(*sandbox.job(), STAND_IN_REFUSES="asr")
    assert done.returncode == 4
    assert "the model big-one is gated" in done.stderr
    assert "exit code 1" in done.stderr
    assert not sandbox.living()
    assert not sandbox.left()


def test_errors_have_their_exit_codes(sandbox: Sandbox) -> None:
    """Usage 2, media 3, service 4, refusal 5; a sentence each, and no traceback."""
    text = sandbox.folder / "text.mp4"
    text.write_text("no film")
    for arguments, code in (
        (["run", str(sandbox.media)], 2),
        (["run", str(sandbox.media), "-t", "nonsense"], 2),
        (["run", "none.mp4", "-t", "en"], 3),
        (["run", str(text), "-t", "en"], 3),
        ([*sandbox.job(), "--asr-endpoint", "127.0.0.1:1"], 4),
        (["run", str(sandbox.media), "-s", "hi", "-t", "fr", "-o", str(sandbox.out)], 5),
        (["transcribe", str(sandbox.media), "-o", str(text / "x")], 6),
    ):
        done = sandbox.run(*arguments)
        assert done.returncode == code, done.stderr
        assert done.stderr.strip()
        assert "Traceback" not in done.stderr


def test_offline_takes_the_bundled_models_and_says_so(sandbox: Sandbox) -> None:
    """With --offline the services get the bundled directories; a person is told what they are."""
    models = sandbox.folder / "models"
    for name in ("asr-tiny-hi-en", "translate-tiny-hi-en", "align-tiny-hi-en"):
        (models / name).mkdir(parents=True)
        (models / name / "config.json").write_text("{}")
    done = sandbox.run(*sandbox.job("--offline", "--words"), VOXROUTE_MODELS_DIR=str(models))
    assert done.returncode == 0, done.stderr
    assert "bundled speech model asr-tiny-hi-en" in done.stderr
    flags = " ".join(path.read_text() for path in sandbox.marks.iterdir())
    assert f"--model {models}/asr-tiny-hi-en" in flags
    assert f"--models {models}/translate-tiny-hi-en" in flags
    assert f"--align-models en={models}/align-tiny-hi-en,hi={models}/align-tiny-hi-en" in flags


def test_a_subtitle_file_is_translated_with_its_times(sandbox: Sandbox) -> None:
    """SRT in, SRT and WebVTT out, cue for cue."""
    path = sandbox.folder / "film.hi.srt"
    cues = [Cue(k * 1000, k * 1000 + 900, f"word{k}") for k in range(8)]
    path.write_text(subtitles.to_srt(cues))
    done = sandbox.run("translate", str(path), "-s", "hi", "-t", "en", "-o", str(sandbox.out))
    assert done.returncode == 0, done.stderr
    result = subtitles.read(sandbox.out / "film.en.srt")
    assert [(c.start_ms, c.end_ms) for c in result] == [(c.start_ms, c.end_ms) for c in cues]
    assert result[5].text == "[untranslated: word5]"
    assert result[7].text == "en:word7"
    assert not sandbox.living()


def test_a_glossary_goes_along_and_its_misses_are_named(sandbox: Sandbox) -> None:
    """--glossary sends the terms of a file; the summary counts them and names the cues."""
    path, terms = sandbox.folder / "film.hi.srt", sandbox.folder / "terms.csv"
    cues = [Cue(k * 1000, k * 1000 + 900, text) for k, text in enumerate(["a b", "a", "b"])]
    path.write_text(subtitles.to_srt(cues))
    terms.write_text("source,target\na,b\n")
    options = ["-s", "hi", "-t", "en", "-o", str(sandbox.out), "--glossary", str(terms)]
    done = sandbox.run("translate", str(path), *options)
    assert done.returncode == 0, done.stderr
    assert "en: glossary terms applied 1 times, missed 1 times" in done.stdout
    assert 'missed "a" in 2' in done.stdout
    terms.write_text("source,target\na,\n")
    wrong = sandbox.run("translate", str(path), *options, "--overwrite")
    assert wrong.returncode == 2
    assert "line 2" in wrong.stderr


def test_formats_and_a_copy_of_the_recording_are_written_on_demand(sandbox: Sandbox) -> None:
    """The kinds that are named, and the recording with its subtitles in it; nothing replaced."""
    more = ["--format", "ass,ttml,json", "--mux"]
    done = sandbox.run(*sandbox.job(*more))
    assert done.returncode == 0, done.stderr
    kinds = [f"film.{tag}.{kind}" for tag in ("hi", "en", "ta") for kind in ("ass", "ttml", "json")]
    names = {path.name for path in sandbox.out.iterdir()}
    assert names >= {*kinds, "film.subtitled.mka"}
    assert not names & {"film.hi.srt", "film.hi.vtt"}
    with av.open(str(sandbox.out / "film.subtitled.mka")) as container:
        tags = [stream.metadata["language"] for stream in container.streams.subtitles]
    assert tags == ["hin", "eng", "tam"]
    again = sandbox.run(*sandbox.job(*more))
    assert again.returncode == 6
    assert "film.subtitled.mka already" in again.stderr
    wrong = sandbox.run(*sandbox.job("--format", "srt,doc"))
    assert wrong.returncode == 2
    assert "doc is no format" in wrong.stderr


def test_services_shows_what_runs_and_what_does_not(sandbox: Sandbox) -> None:
    """A line for each configured service; exit code 4 when one is down."""
    assert sandbox.run("services").returncode == 0
    socket = sandbox.folder / "s"
    service = subprocess.Popen(
        [sys.executable, "-m", "voxroute_asr_whisperx", "--listen", f"unix:{socket}"],
        env=sandbox.environment,
    )
    try:
        wait(socket.exists)
        good = sandbox.run("services", "--asr-endpoint", f"unix:{socket}")
        assert good.returncode == 0, good.stderr
        assert "serving" in good.stdout
        assert "steps" in good.stdout
        bad = sandbox.run(
            "services", "--asr-endpoint", f"unix:{socket}", "--translate-endpoint", "127.0.0.1:1"
        )
        assert bad.returncode == 4
        assert "127.0.0.1:1" in bad.stderr
    finally:
        service.terminate()
        service.wait(30)
