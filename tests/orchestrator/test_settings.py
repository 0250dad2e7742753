"""Settings: flags beat variables, which beat the file."""

from pathlib import Path

import pytest

from voxroute_orchestrator import settings
from voxroute_orchestrator.errors import UsageError


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def test_flags_beat_variables_which_beat_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nearest to the person wins, field by field."""
    (tmp_path / "voxroute.yaml").write_text(
        "asr_endpoints: [a:1, b:2]\nretry_s: 7\noffline: true\n"
    )
    loaded = settings.load()
    assert (loaded.asr_endpoints, loaded.retry_s, loaded.offline) == (("a:1", "b:2"), 7, True)
    monkeypatch.setenv("VOXROUTE_ASR_ENDPOINTS", "c:3, unix:/d")
    assert settings.load().asr_endpoints == ("c:3", "unix:/d")
    assert settings.load(asr_endpoints="e:5").asr_endpoints == ("e:5",)
    assert settings.load(asr_endpoints="e:5").retry_s == 7


def test_the_rules_of_cues_can_be_set_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable beats the file's value of the same rule; the others stay as they are."""
    (tmp_path / "voxroute.yaml").write_text("subtitles: {line_characters: 37, max_ms: 6000}\n")
    monkeypatch.setenv("VOXROUTE_SUBTITLES__LINE_CHARACTERS", "32")
    rules = settings.load().subtitles
    assert (rules.line_characters, rules.max_ms, rules.min_ms) == (32, 6000, 1000)
    monkeypatch.setenv("VOXROUTE_SUBTITLES__MIN_MS", "9000")
    with pytest.raises(UsageError, match="min_ms"):
        settings.load()


@pytest.mark.parametrize("text", ["asr_endpoint: a:1", "retry_s: soon", "a: [", "- 1"])
def test_a_wrong_file_is_refused_with_its_reason(text: str, tmp_path: Path) -> None:
    """A name that is none, a value of the wrong kind, no YAML: never silently ignored."""
    (tmp_path / "voxroute.yaml").write_text(text)
    with pytest.raises(UsageError, match="setting"):
        settings.load()


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    """--config with a wrong path is an error, not the defaults."""
    with pytest.raises(UsageError, match="no settings file"):
        settings.load(config=tmp_path / "none.yaml")
