"""A recording's name may be anything that the file system takes."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.orchestrator import recordings
from tests.orchestrator.cli.test_command import Sandbox, sandbox
from tests.orchestrator.daemon import (
    Daemon,
    Services,
    artifact,
    config,
    ended,
    messages,
)
from voxroute.jobs.v1 import jobs_pb2
from voxroute_orchestrator.cli.terminal.progress import LineReporter
from voxroute_orchestrator.errors import MediaError, MediaNotFoundError, OutputError, UsageError
from voxroute_orchestrator.jobs.errors import InvalidJobError
from voxroute_orchestrator.jobs.files import check_upload_name
from voxroute_orchestrator.media import probe
from voxroute_orchestrator.names import MAX_BYTES, fitted, sent, shown, told_apart
from voxroute_orchestrator.pipeline.batch import Recording, find, folders_of, is_batch
from voxroute_orchestrator.pipeline.journal import SqliteJournal, journal_path
from voxroute_orchestrator.spec import language_of
from voxroute_orchestrator.subtitles.results import are_of_another, result_names

__all__ = ["sandbox"]

HINDI = "ह"  # three bytes
ODD = [
    "-film", "--help", "film.", "film ", " film", "...film", "film\nof two lines", "film\r", "\t",
    "film\x1b[31mred", "[b]film", "[bold", "100%", "%s%n", "film\\of\\windows", "a:b", "a,b",
    "🎬👨‍👩‍👧", "e\u0301\u0301\u0301", "\u202efilm", "नमस्ते", "film\u200d", "\ufeff",
    "film\u2028two", "$HOME", "`id`", "'", '"', "film;", "*", "?", "~", "film.hi",
    "film.transcript", "\x7f",
    os.fsdecode(b"caf\xe9"), os.fsdecode(b"\xff\xfe"), os.fsdecode(b"\xed\xa0\x80"),
]  # fmt: skip


def endpoints(services: Services) -> list[str]:
    """The flags that name them."""
    return ["--asr-endpoint", services.asr, "--translate-endpoint", services.translate]


def bytes_of(name: str) -> int:
    """How long the file system finds it."""
    return len(os.fsencode(name))


# --- names of results


@pytest.mark.parametrize("size", [1, 200, 228, 231, 232, 235, 246, 251, 255])
@pytest.mark.parametrize("letter", ["a", HINDI, "e\u0301", "👨‍👩‍👧", os.fsdecode(b"\xff")])
def test_names_of_results_fit_whatever_the_title(letter: str, size: int) -> None:
    """At most 255 bytes, whole letters; the title stays whole where there is room."""
    title = letter * (size // bytes_of(letter))
    names = [
        *result_names(title, ["en", "zh-Hant-TW"], ["srt", "json"]),
        fitted(title, ".voxroute-lock", beginning="."),
        journal_path(Path("films"), title).name,
    ]
    for name in names:
        assert bytes_of(name) <= MAX_BYTES
        os.fsencode(name).decode(errors="surrogateescape")
        if bytes_of(title) < 200:
            assert title in name
        elif title not in name:
            kept = name.removeprefix(".").split("~")[0]
            assert title.startswith(kept)
            assert kept == letter * (len(kept) // len(letter))
    assert len(set(names)) == len(names)


def test_titles_that_begin_alike_keep_names_of_their_own() -> None:
    """What is cut off tells them apart, and does so every time."""
    one, other = HINDI * 83 + "1", HINDI * 83 + "2"
    names = [fitted(title, ".transcript.json") for title in (one, other, one)]
    assert names[0] == names[2]
    assert names[0] != names[1]


async def test_a_journal_fits_into_the_path_that_sqlite_takes(tmp_path: Path) -> None:
    """SQLite takes 512 bytes of path: the name is cut to that, and a folder too deep is told."""
    folder = tmp_path
    while bytes_of(str(folder.resolve())) < 400:
        folder /= "deep" * 10
    folder.mkdir(parents=True)
    with SqliteJournal(journal_path(folder, HINDI * 83)) as journal:
        await journal.keep_fact("a", 1)
        assert journal.fact("a") == 1
    deeper = folder / ("d" * 120)
    deeper.mkdir()
    with pytest.raises(OutputError, match="shorter path"):
        SqliteJournal(journal_path(deeper, HINDI))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("film", "film"),
        ("नमस्ते 👨‍👩‍👧", "नमस्ते 👨‍👩‍👧"),
        ("a\nb\x1b[0m", "a\\nb\\x1b[0m"),
        (os.fsdecode(b"caf\xe9"), "caf\\xe9"),
        ("\u202egp4.exe", "\\u202egp4.exe"),
    ],
)
def test_names_are_shown_in_one_line(name: str, text: str) -> None:
    """Nothing of a name reaches a terminal as a command, and all of it can be sent and kept."""
    assert shown(name) == text
    shown(name).encode()


def test_every_recording_of_a_run_has_a_name_of_its_own() -> None:
    """Its title, or its path where another has the title; never two the same."""
    paths = [
        Path(p) for p in ("a/01.wav", "b/01.wav", "c.wav", "x\n.wav", "y/x\\n.wav", "x\\n.wav")
    ]
    names = told_apart(paths)
    assert names[:3] == ["a/01.wav", "b/01.wav", "c"]
    assert len(set(names)) == len(names)


def test_results_keep_apart_where_a_file_system_takes_two_names_for_one() -> None:
    """A composed and a decomposed letter are two names here and one on a Mac; long ones fit."""
    below = Path("films")
    names = ["caf\u00e9.mp4", "cafe\u0301.mp4"]
    folders = folders_of([Recording(below / name, below) for name in names], Path("out"))
    assert len(set(folders)) == 2
    long = "x" * 251 + ".mp4"
    roots = [Recording(Path(root) / long, Path(root)) for root in ("p", "q")]
    folders = folders_of(roots, Path("out"))
    assert len(set(folders)) == 2
    assert all(bytes_of(folder.name) <= MAX_BYTES for folder in folders)


# --- nothing is keyed by a title


@pytest.mark.parametrize(
    "jobs", ["2", *(pytest.param(jobs, marks=pytest.mark.slow) for jobs in ("1", "8"))]
)
def test_recordings_of_one_title_are_done_at_once(
    jobs: str, sandbox: Sandbox, services: Services
) -> None:
    """Four seasons have an episode 01; each gets its own results, and its own lines."""
    seasons = [sandbox.folder / "films" / f"season{number}" for number in range(4)]
    for number, season in enumerate(seasons):
        season.mkdir(parents=True)
        recordings.write(season / "01.wav", recordings.steps(2 + number))
    done = sandbox.run(
        "run", str(sandbox.folder / "films"), "-s", "hi", "-t", "en", "-o", str(sandbox.out),
        "--jobs", jobs, *endpoints(services),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for number, season in enumerate(seasons):
        words = (sandbox.out / season.name / "01.hi.srt").read_text().count("word")
        assert words == 2 + number
        assert f"{season / '01.wav'}: transcribing" in done.stderr


def test_a_stage_that_has_ended_takes_late_news(capsys: pytest.CaptureFixture[str]) -> None:
    """An answer that was on its way is no defect."""
    told = LineReporter(sys.stderr)
    told.stage("transcribing", 10)
    told.finish("transcribing")
    told.advance("transcribing", 5)
    told.finish("transcribing")
    assert "done" in capsys.readouterr().err


def test_results_of_another_recording_of_the_title_are_not_replaced(
    sandbox: Sandbox, services: Services
) -> None:
    """Two commands, two seasons, one folder: the second is refused, unless it may overwrite."""
    for number in (1, 2):
        season = sandbox.folder / f"season{number}"
        season.mkdir()
        recordings.write(season / "01.wav", recordings.steps(3))
    command = ["transcribe", "-s", "hi", "-o", str(sandbox.out), "--asr-endpoint", services.asr]
    first = sandbox.run(*command, "season1/01.wav")
    assert first.returncode == 0, first.stderr
    other = sandbox.run(*command, "season2/01.wav", "--resume")
    assert other.returncode == 6
    assert "--overwrite" in other.stderr
    for path, another in (
        (sandbox.folder / "season1" / "01.wav", False),
        (sandbox.folder / "season2" / "01.wav", True),
    ):
        transcript = sandbox.out / "01.transcript.json"
        there = transcript.read_text().replace(
            '"season1/01.wav"', json.dumps(str(sandbox.folder / "season1" / "01.wav"))
        )
        transcript.write_text(there)
        assert are_of_another(sandbox.out, probe(path)) is another


def test_a_run_goes_on_from_no_journal_of_another_recording(
    sandbox: Sandbox, services: Services
) -> None:
    """One that was interrupted, of the same title and length: what it has found is not mixed in."""
    for number in (1, 2):
        season = sandbox.folder / f"season{number}"
        season.mkdir()
        samples = recordings.steps(20)
        recordings.write(season / "01.wav", samples if number == 1 else samples[::-1].copy())
    command = ["transcribe", "-s", "hi", "-o", str(sandbox.out)]
    running = sandbox.start(*command, "season1/01.wav", STAND_IN_DELAY_S="0.4")
    assert running.stderr is not None
    while "transcribing" not in (line := running.stderr.readline()):
        assert line
    while not list(sandbox.out.glob(".01.voxroute-journal")):
        pass
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    endpoint = ["--asr-endpoint", services.asr]
    other = sandbox.run(*command, "season2/01.wav", "--resume", *endpoint)
    assert other.returncode == 2, other.stderr
    assert "another recording" in other.stderr
    same = sandbox.run(*command, "season1/01.wav", "--resume", *endpoint)
    assert same.returncode == 0, same.stderr


# --- any name works


def odd_names(times: int) -> list[str]:
    """Titles of all kinds, each once; those that people bring first."""
    chance = random.Random(7)  # noqa: S311 - the same ones each time
    letters = [
        *"abZ09 .-_~[]{}()'\"%$&*?:;,\\\n\r\t\x01\x1b\x7f\u200d\u202e\u2028\u00ad\ue000\u0378é日🎬",
        "e\u0301", HINDI, os.fsdecode(b"\xff"), os.fsdecode(b"\xc3"),
    ]  # fmt: skip
    names = dict.fromkeys([*ODD, "x" * 251, HINDI * 83, "🎬" * 62])
    while len(names) < times:
        name = "".join(chance.choices(letters, k=chance.choice([3, 10, 40, 120])))
        while bytes_of(name) > MAX_BYTES - len(".wav"):
            name = name[:-1]
        names[name] = None
    return list(names)[:times]


@pytest.mark.parametrize(
    "times", [60, pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
def test_recordings_of_any_name_are_done(times: int, sandbox: Sandbox, services: Services) -> None:
    """Each has its transcript, under its own name as far as that fits; nothing is a traceback."""
    source = recordings.write(sandbox.folder / "one.wav", recordings.steps(1))
    films = sandbox.folder / "films"
    films.mkdir()
    names = [name for name in odd_names(times) if not name.startswith(".")]
    for name in names:
        os.link(source, films / f"{name}.wav")
    process = subprocess.run(
        [
            sys.executable, "-m", "voxroute_orchestrator", "run", "films", "-s", "hi", "-t", "en",
            "-o", "out", "--jobs", "4", "-q", *endpoints(services),
        ],
        cwd=sandbox.folder, env=sandbox.environment, capture_output=True, check=False,
        timeout=1700,
    )  # fmt: skip
    told = process.stderr.decode(errors="replace")
    assert "Traceback" not in told
    assert process.returncode == 0, told[-2000:]
    assert process.stdout.count(b"\tdone\t") == len(names)
    for name in names:
        found = list((sandbox.folder / "out").rglob(glob_of(fitted(name, ".transcript.json"))))
        assert found, name
        transcript = json.loads(found[0].read_bytes())
        assert transcript["complete"]
        assert transcript["media"]["title"] in {shown(name), shown(Path(f"{name}.wav").stem)}
    assert not list((sandbox.folder / "out").rglob(".*"))


def glob_of(name: str) -> str:
    """The pattern of a name."""
    return "".join(f"[{sign}]" if sign in "*?[" else sign for sign in name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["-\n" + HINDI * 82 + os.fsdecode(b"\xe9"), "-film", HINDI * 83, "\u202e[b]"]
)
def test_one_recording_of_an_odd_name_is_done_by_every_command(
    name: str, sandbox: Sandbox, services: Services
) -> None:
    """Transcription with a copy, translate of what came out, and a prepared job."""
    path = recordings.write(sandbox.folder / "one.wav", recordings.steps(2))
    path = path.rename(sandbox.folder / f"{name}.wav")

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "voxroute_orchestrator", *arguments],
            cwd=sandbox.folder, env=sandbox.environment, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, check=False, timeout=120,
        )  # fmt: skip
        said = done.stdout.decode(errors="replace")
        assert done.returncode == 0, said
        assert "Traceback" not in said
        return said

    asr = ["--asr-endpoint", services.asr]
    translate = ["--translate-endpoint", services.translate]
    said = run("transcribe", "-s", "hi", "--mux", "-o", "out", *asr, "--", path.name)
    assert shown(f"out/{fitted(name, '.transcript.json')}") in said.splitlines()
    if HINDI in name:
        assert "the name is too long for" in said
    hindi = fitted(name, ".hi.srt")
    run("translate", "-s", "hi", "-t", "en", "-o", "out", *translate, "--", f"out/{hindi}")
    said = run("prepare", "--transcribe", "-s", "hi", "--offline", "--", path.name)
    job_id = said.split("Job: ")[1].split()[0]
    run("run-job", "-j", job_id)
    (folder,) = (sandbox.folder / "out" / "jobs").iterdir()
    assert (folder / fitted(name, ".transcript.json")).is_file()


def test_a_name_that_is_longer_than_any_file_is_refused_with_a_sentence(sandbox: Sandbox) -> None:
    """Exit code 3 and one line, alone or among several; for other commands too."""
    for name in ("x" * 300, "y" * 5000, "a/" * 3000):
        assert not is_batch([name])
        with pytest.raises(MediaError):
            probe(find([name, name])[0].path)
    with pytest.raises(MediaNotFoundError):
        find(["[" + "x" * 300])
    done = sandbox.run("run", "x" * 300, "y" * 5000, "-s", "hi", "-t", "en")
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    done = sandbox.run("translate", "-s", "hi", "-t", "en", "x" * 300)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr


# --- the job service


@pytest.mark.parametrize(
    "name", ["ज़िंदगी 👨‍👩‍👧.mp4", "映画\u3000.mp4", "x" * 255, HINDI * 85, "a\u00adb", "\ue000"]
)
def test_the_job_service_takes_every_name_of_one_line(name: str) -> None:
    """Up to 255 bytes; joined letters, wide blanks and private letters are names like others."""
    assert check_upload_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a\\b", ".hidden", "a\nb", "a\x1bb", "x" * 256]
)
def test_the_job_service_refuses_other_names(name: str) -> None:
    """What could leave its folder, hide, or command a terminal."""
    with pytest.raises(InvalidJobError):
        check_upload_name(name)


@pytest.mark.parametrize("name", ODD)
def test_the_client_sends_names_that_the_service_takes(name: str) -> None:
    """What the service would refuse, a line feed say, is replaced in the name that is sent."""
    assert check_upload_name(sent(f"{name}.wav"))


def test_a_job_of_a_long_or_odd_name_is_done(tmp_path: Path, services: Services) -> None:
    """Its results have fitting names, are told, and come to the client whole."""
    path = recordings.write(tmp_path / "one.wav", recordings.steps(2))
    daemon = Daemon(
        tmp_path, ("--asr-endpoint", services.asr, "--translate-endpoint", services.translate)
    )
    long = HINDI * 83 + ".wav"
    odd = os.fsdecode(b"-caf\xe9 \n.wav")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("VOXROUTE_")}

    def command(*arguments: str) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            [sys.executable, "-m", "voxroute_orchestrator", "jobs", *arguments],
            cwd=tmp_path, env=environment | {"VOXROUTE_SERVER": daemon.target},
            capture_output=True, check=False, timeout=120,
        )  # fmt: skip

    try:
        daemon.start()
        stub = daemon.stub()
        job = stub.SubmitJob(messages(config(upload_name=long), path.read_bytes())).job
        done = ended(stub, job.id)
        assert done.state == jobs_pb2.JOB_STATE_SUCCEEDED, done.error
        assert len(done.artifacts) == 6
        assert all(bytes_of(one.name) <= MAX_BYTES for one in done.artifacts)
        assert artifact(stub, job.id, done.artifacts[0].name)
        got = command("fetch", job.id, "-o", "got")
        assert got.returncode == 0, got.stderr
        assert len(list((tmp_path / "got").iterdir())) == 6
        path.rename(tmp_path / odd)
        submitted = command("submit", "-s", "hi", "-t", "en", "--watch", "--", odd)
        assert submitted.returncode == 0, submitted.stderr
        assert b"is called" in submitted.stderr
        named = command("submit", "--on-server", "--", odd)
        assert named.returncode == 2
        assert b"Traceback" not in named.stderr
    finally:
        daemon.close()


def test_a_language_has_no_longer_tag_than_any_that_is_registered() -> None:
    """It is in the names of results."""
    with pytest.raises(UsageError, match="no language"):
        language_of("en-x-" + "-".join(["abcdefgh"] * 30))
