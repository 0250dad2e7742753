"""What clients of the job service read names files, and not where they are on its host."""

from pathlib import Path

import pytest

from voxroute_orchestrator.jobs.files import JobFiles
from voxroute_orchestrator.jobs.runner import hiding_paths


@pytest.mark.parametrize("blank", ["", " of ours"])
def test_folders_are_hidden_whether_they_have_blanks_or_not(blank: str, tmp_path: Path) -> None:
    """The data folder, a media root, the user's home: what is left are the names of files."""
    data, root = tmp_path / f"data{blank}", tmp_path / f"films{blank}"
    files = JobFiles(data / "jobs" / "0123456789ab")
    (root / "a b").mkdir(parents=True)
    link = tmp_path / "link"
    link.symlink_to(root)
    hidden = hiding_paths(files, [data, link])
    for path, name in (
        (files.media / "film.mp4", "media/film.mp4"),
        (data / "jobs.sqlite", "jobs.sqlite"),
        (root / "film.mp4", "film.mp4"),
        (link / "film.mp4", "film.mp4"),
        (Path.home() / "film.mp4", "film.mp4"),
        (Path("/srv/films/film.mp4"), "film.mp4"),
    ):
        assert hidden(f"the file {path} is damaged") == f"the file {name} is damaged"
        assert hidden(f"{path}: no audio") == f"{name}: no audio"
        assert hidden(f"'{path}', too") == f"'{name}', too"


@pytest.mark.parametrize(
    "text",
    ["12 / 14 windows", "and/or", "http://127.0.0.1:1/metrics", "owner/model", "a/b/c.mp4", "1/2"],
)
def test_what_is_no_path_of_the_host_stays(text: str, tmp_path: Path) -> None:
    """Addresses, models, fractions and relative names."""
    assert hiding_paths(JobFiles(tmp_path), [tmp_path])(text) == text
