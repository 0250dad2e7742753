"""Model directories and the cache of converted models."""

import threading
import time
from pathlib import Path

import pytest

from voxroute_serving.errors import ModelNotFoundError, ModelUnavailableError
from voxroute_serving.models import hub


def _model(directory: Path, text: str = "weights") -> Path:
    directory.mkdir()
    (directory / "model.bin").write_text(text)
    return directory


def test_the_revision_follows_the_contents(tmp_path: Path) -> None:
    """Equal contents have equal revisions wherever they lie; documentation does not count."""
    one, two = _model(tmp_path / "a"), _model(tmp_path / "b")
    (two / "README.md").write_text("words")
    assert hub.revision_of(one) == hub.revision_of(two)
    assert hub.revision_of(one).startswith("sha256:")
    assert hub.revision_of(one) != hub.revision_of(_model(tmp_path / "c", "others"))


def test_a_conversion_is_made_once_even_by_two_at_once(tmp_path: Path) -> None:
    """The second waits for the first; a failed one leaves nothing behind."""
    source, cache = _model(tmp_path / "a"), tmp_path / "cache"
    made: list[Path] = []

    def fail(target: Path) -> None:
        (target / "half").write_text("x")
        raise ValueError("broken")

    def convert(target: Path) -> None:
        made.append(target)
        time.sleep(0.1)
        (target / "done").write_text("x")

    with pytest.raises(ValueError, match="broken"):
        hub.converted(source, "kind", fail, cache_dir=cache)
    assert not [path for path in (cache / "converted").iterdir() if path.is_dir()]
    threads = [
        threading.Thread(
            target=hub.converted, args=(source, "kind", convert), kwargs={"cache_dir": cache}
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert (hub.converted(source, "kind", convert, cache_dir=cache) / "done").is_file()


def test_missing_models_are_told_apart(tmp_path: Path) -> None:
    """A path that is not there is not found; a hub's model without a network is unavailable."""
    assert hub.local_directory(str(tmp_path), offline=True) == tmp_path.resolve()
    with pytest.raises(ModelNotFoundError, match="neither a directory"):
        hub.local_directory(str(tmp_path / "x"), offline=True)
    with pytest.raises(ModelUnavailableError, match="offline"):
        hub.local_directory("nobody/nothing-of-this-name", offline=True)
