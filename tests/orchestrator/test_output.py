"""Results on the disk."""

import subprocess
import sys
from pathlib import Path

import pytest

from voxroute_orchestrator.errors import OutputError
from voxroute_orchestrator.files import prepare, write_atomic

LIMITED = """
import resource, sys
from pathlib import Path
from voxroute_orchestrator.errors import OutputError
from voxroute_orchestrator.files import write_atomic

resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_atomic(Path(sys.argv[1]), "x" * 5000)
except OutputError as error:
    sys.exit(str(error))
"""


def test_a_file_that_cannot_be_written_whole_is_not_there(tmp_path: Path) -> None:
    """When the file system takes no more, the old file stays and no temporary one is left."""
    path = tmp_path / "a.srt"
    path.write_text("old")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_files_of_others_are_not_replaced(tmp_path: Path) -> None:
    """A subtitle file that did not come from an earlier run stops the job before it begins."""
    (tmp_path / "a.en.srt").touch()
    with pytest.raises(OutputError, match=r"a\.en\.srt already"):
        prepare(tmp_path, ["a.en.srt"], overwrite=False, mark="a.transcript.json")
    prepare(tmp_path, ["a.en.srt"], overwrite=True)
    (tmp_path / "a.transcript.json").touch()
    prepare(tmp_path, ["a.en.srt"], overwrite=False, mark="a.transcript.json")


def test_a_folder_that_cannot_be_made_is_told_before_the_work(tmp_path: Path) -> None:
    """A file in the way, or no permission: the sentence names -o."""
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="-o"):
        prepare(tmp_path / "file" / "folder", [], overwrite=False)


def test_written_files_are_whole_and_readable_by_all(tmp_path: Path) -> None:
    """The file has the text, and the permissions that any other new file would have."""
    (tmp_path / "plain").touch()
    write_atomic(tmp_path / "a.srt", "é\n")
    assert (tmp_path / "a.srt").read_bytes() == "é\n".encode()
    assert (tmp_path / "a.srt").stat().st_mode == (tmp_path / "plain").stat().st_mode
