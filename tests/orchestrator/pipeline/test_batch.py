"""Many recordings in one run: which, where to, with which services, and how it ends."""

import signal
from pathlib import Path

import pytest

from tests.orchestrator import recordings
from tests.orchestrator.cli.test_command import Sandbox, sandbox
from voxroute_orchestrator.errors import (
    CorruptMediaError,
    MediaNotFoundError,
    OutputError,
    VoxrouteError,
)
from voxroute_orchestrator.pipeline.batch import (
    Outcome,
    Recording,
    exit_code,
    find,
    folders_of,
    is_batch,
)

__all__ = ["sandbox"]


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A folder with recordings, and with what is none."""
    folder = tmp_path / "library"
    for name in ("a.wav", "one/film.wav", "two/film.wav", "two/.hidden.wav"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        recordings.write(path, recordings.steps(1))
    (folder / "one" / "notes.txt").write_text("no recording")
    (folder / "one" / "film.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nhello\n")
    return folder


def test_folders_and_patterns_give_what_has_audio_each_once(library: Path) -> None:
    """Sorted, hidden files left out; a file that is named is taken as it is."""
    named = str(library / "one" / "notes.txt")
    found = find([str(library), str(library / "**" / "*.wav"), named])
    assert [str(one.path.relative_to(library)) for one in found] == [
        "a.wav", "one/film.wav", "two/film.wav", "one/notes.txt",
    ]  # fmt: skip
    assert is_batch([str(library)])
    assert is_batch([named, named])
    assert not is_batch([named])
    assert not is_batch(["no-such-file"])
    for nothing in (str(library / "*.mkv"), str(library / "one" / "*.txt")):
        with pytest.raises(MediaNotFoundError):
            find([nothing])


def test_what_is_called_like_media_and_cannot_be_read_is_not_passed_over(library: Path) -> None:
    """A film that was cut off would be missed by nobody; it fails with its reason."""
    (library / "cut.mp4").write_bytes(b"\0\0\0\x18ftypisom")
    (library / "empty.MKV").touch()
    (library / "gone.webm").symlink_to(library / "nowhere")
    for argument in (library, library / "*"):
        names = [one.path.name for one in find([str(argument)])]
        assert {"cut.mp4", "empty.MKV", "gone.webm"} < set(names)
        assert not {"notes.txt", "film.srt"} & set(names)


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tmp_path: Path) -> None:
    """`film [1080p].wav` is there, so it is meant."""
    path = recordings.write(tmp_path / "film [1080p].wav", recordings.steps(1))
    assert not is_batch([str(path)])


def test_results_that_would_collide_keep_their_sub_folders() -> None:
    """The same title elsewhere: its sub-folder; in one folder: a folder of the whole name."""
    below, out = Path("films"), Path("out")
    names = ["a.mp4", "x/film.mp4", "y/Film.mp4", "y/film.mkv"]
    assert folders_of([Recording(below / name, below) for name in names], out) == [
        out, out / "x", out / "y" / "Film.mp4", out / "y" / "film.mkv",
    ]  # fmt: skip
    twice = [Recording(Path(root) / "film.mp4", Path(root)) for root in ("p", "q")]
    assert folders_of(twice, out) == [out / "film.mp4-1", out / "film.mp4-2"]


def test_the_exit_code_is_that_of_the_worst() -> None:
    """0 only where all succeeded; a defect is worse than any other failure."""

    def code(*errors: VoxrouteError | None) -> int:
        return exit_code(Outcome(Path("m"), Path("o"), error=error) for error in errors)

    assert code(None, None) == 0
    assert code(None, CorruptMediaError("x")) == 3
    assert code(OutputError("x"), CorruptMediaError("x")) == 6
    assert code(VoxrouteError("x"), OutputError("x")) == 1


def test_a_batch_starts_its_services_once_and_a_bad_file_stops_no_other(
    sandbox: Sandbox, library: Path
) -> None:
    """Three recordings and a broken one, two at once: two services, four lines, exit code 3.

    With --resume what is complete is not done again.
    """
    broken = sandbox.folder / "broken.mp4"
    broken.write_text("no film")
    done = sandbox.run(
        "run", str(broken), str(library), "-s", "hi", "-t", "en", "-o", str(sandbox.out),
        "--jobs", "2",
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "1 of 4 recordings failed" in done.stderr
    table = [line.split("\t") for line in done.stdout.splitlines() if "\t" in line]
    assert [row[1] for row in table] == ["failed", "done", "done", "done"]
    for name in ("a.en.srt", "one/film.en.srt", "two/film.hi.vtt"):
        assert (sandbox.out / name).is_file()
    assert len(sandbox.pids()) == 2
    assert not sandbox.living()
    assert not sandbox.left()
    (sandbox.out / "a.en.srt").unlink()
    again = sandbox.run(
        "run", str(library), "-s", "hi", "-t", "en", "-o", str(sandbox.out), "--resume"
    )
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("complete already") == 2
    assert (sandbox.out / "a.en.srt").is_file()


def test_ctrl_c_ends_the_whole_batch_and_keeps_what_is_finished(sandbox: Sandbox) -> None:
    """Exit code 130; the one that ran has partial results, the one after it has none."""
    other = recordings.write(sandbox.folder / "other.wav", recordings.steps(20))
    process = sandbox.start(
        "run", str(sandbox.media), str(other), "-s", "hi", "-t", "en", "-o", str(sandbox.out),
        STAND_IN_DELAY_S="0.4",
    )  # fmt: skip
    assert process.stderr is not None
    told = ""
    while "film: transcribing" not in told:
        told = process.stderr.readline()
        assert told, "it ended before it began"
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    table = [line.split("\t") for line in out.splitlines() if "\t" in line]
    assert [row[1] for row in table] == ["interrupted", "not begun"]
    assert (sandbox.out / "film.transcript.partial.json").is_file()
    assert not list(sandbox.out.glob("other*"))
    assert not sandbox.living()
