"""The start of a job: what is refused before it, what is done beside it, what it shows."""

import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

from tests.orchestrator import recordings
from tests.orchestrator.cli.test_command import ROOT, Sandbox, sandbox
from voxroute_asr_whisperx import ENGINE as WHISPERX
from voxroute_orchestrator.cli.terminal.bars import BarReporter
from voxroute_orchestrator.cli.terminal.progress import LineReporter
from voxroute_orchestrator.errors import CorruptMediaError, NoAudioError, RefusedError, UsageError
from voxroute_orchestrator.fleet import services
from voxroute_orchestrator.media import CHUNK_BYTES, PcmReader, probe
from voxroute_orchestrator.models import prechecks
from voxroute_orchestrator.pipeline.read_ahead import EarlyReader
from voxroute_orchestrator.reporter import waits

__all__ = ["sandbox"]  # the fixture of the command's own tests

SPEECH_MODEL = str(ROOT / "models" / "asr-tiny-hi-en")
TRANSLATION_MODEL = str(ROOT / "models" / "translate-tiny-hi-en")


# --- refused before anything is started


def test_a_pair_that_no_model_here_translates_is_refused() -> None:
    """The files of the models tell; the sentence names what they can."""
    prechecks.check_translation([TRANSLATION_MODEL], [("hi", "en"), ("en", "hi")], offline=True)
    with pytest.raises(RefusedError, match="does not translate hi to ta; it offers en-hi, hi-en"):
        prechecks.check_translation([TRANSLATION_MODEL], [("hi", "ta")], offline=True)


def test_a_language_that_the_speech_model_does_not_know_is_refused() -> None:
    """A model's own file names its languages; those whose name ends in .en know English."""
    for model, known, other in ((SPEECH_MODEL, "hi", "ta"), ("tiny.en", "en-GB", "hi")):
        prechecks.check_speech(model, known, WHISPERX, offline=False)
        prechecks.check_speech(model, None, WHISPERX, offline=False)
        with pytest.raises(RefusedError, match=f"not {other}; name another one"):
            prechecks.check_speech(model, other, WHISPERX, offline=False)


def test_a_model_that_is_not_here_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path without a folder or a folder without a model; offline, a hub id without a copy."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    missing = str(tmp_path / "none" / "model")
    for model, offline, said in (
        (missing, False, "does not exist|there is no directory"),
        (str(tmp_path), False, "holds no config.json"),
        ("acme/model", True, "is not on this host, and --offline"),
    ):
        with pytest.raises(UsageError, match=said):
            prechecks.check_speech(model, "hi", WHISPERX, offline=offline)
        with pytest.raises(UsageError, match=said):
            prechecks.check_translation([model], [], offline=offline)
    with pytest.raises(UsageError, match="did you mean 'large-v3'"):
        prechecks.check_speech("large-v33", "hi", WHISPERX, offline=False)
    snapshot = tmp_path / "hub" / "models--acme--model" / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (snapshot / "voxroute.json").write_text(json.dumps({"languages": ["hi"]}))
    prechecks.check_speech("acme/model", "hi", WHISPERX, offline=True)
    with pytest.raises(RefusedError):
        prechecks.check_speech("acme/model", "ta", WHISPERX, offline=True)


def test_a_recording_without_sound_starts_nothing(sandbox: Sandbox) -> None:
    """The container promises audio and holds none: told before a service is started."""
    empty = recordings.write(sandbox.folder / "empty.wav", recordings.steps(20))
    data = empty.read_bytes()
    header = data.index(b"data") + 8
    empty.write_bytes(data[:header])
    done = sandbox.run("transcribe", str(empty), "-s", "hi", "-o", str(sandbox.out))
    assert done.returncode == 3, done.stderr
    assert sandbox.pids() == []
    assert not list(sandbox.out.glob(".*journal*"))


# --- read beside the start


def _read_all(reader: PcmReader) -> bytes:
    return b"".join(iter(reader.read, b""))


def test_what_was_decoded_early_comes_first_and_once(tmp_path: Path) -> None:
    """The same bytes as without, also when reading begins while decoding still goes on."""
    media = probe(recordings.write(tmp_path / "film.wav", recordings.steps(120)))
    wanted = _read_all(PcmReader(media))
    for most in (1, 3 * CHUNK_BYTES, len(wanted) * 2):
        early = EarlyReader(media)
        early.check()
        thread = threading.Thread(target=early.read_ahead, args=(most,))
        thread.start()
        assert _read_all(early) == wanted
        thread.join()
        assert early.first_s == 0.0
        early.close()
        assert early.read() == b""


def test_damage_is_told_where_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was decoded before the failure is read before it is raised; no audio is told at once."""
    media = probe(recordings.write(tmp_path / "film.wav", recordings.steps(20)))
    chunks = iter([b"a", b"b"])

    def read(self: PcmReader) -> bytes:
        del self
        for chunk in chunks:
            return chunk
        raise CorruptMediaError("damaged")

    monkeypatch.setattr(PcmReader, "read", read)
    early = EarlyReader(media)
    early.check()
    early.read_ahead()
    assert [early.read(), early.read()] == [b"a", b"b"]
    with pytest.raises(CorruptMediaError):
        early.read()
    with pytest.raises(CorruptMediaError):
        EarlyReader(media).check()
    monkeypatch.setattr(PcmReader, "read", lambda _: b"")
    with pytest.raises(NoAudioError):
        EarlyReader(media).check()


# --- shown


def test_a_terminal_shows_the_seconds_of_a_wait_and_a_pipe_a_line() -> None:
    """One line in a log; on a terminal a bar that is gone in the end."""
    text = io.StringIO()
    with waits(LineReporter(text))("loading whisper-base"):
        pass
    assert text.getvalue() == "loading whisper-base\n"
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=80)
    with BarReporter(console) as told:
        with waits(told)("loading whisper-base"):
            time.sleep(0.3)
            told._progress.refresh()
        assert not told._progress.tasks
    assert "loading whisper-base" in text.getvalue()
    assert " 0 s" in text.getvalue()


# --- what a killed run has left


def test_the_folder_of_a_killed_run_is_removed_by_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its logs and dead sockets go; the folder of a run that lives, and other folders, stay."""
    with tempfile.TemporaryDirectory(prefix="vx") as name:
        monkeypatch.setattr(tempfile, "tempdir", name)
        results = Path(tempfile.mkdtemp(prefix="voxroute-results-"))
        code = (
            "import sys; from voxroute_orchestrator.fleet.services import private_folder\n"
            "with private_folder() as folder: print(folder, flush=True); sys.stdin.read()"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"TMPDIR": name},
        ) as other:
            assert other.stdout is not None
            left = Path(other.stdout.readline().strip())
            (left / "voxroute_translate.log").write_text("a line")
            with services.private_folder() as own:
                assert left.exists()
                other.kill()
                other.wait()
                with services.private_folder():
                    assert own.exists()
                    assert not left.exists()
            assert list(Path(name).iterdir()) == [results]
