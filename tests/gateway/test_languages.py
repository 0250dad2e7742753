"""The names and codes that programs look languages up by."""

import pytest
from whisperx.utils import LANGUAGES

from voxroute_gateway.languages import name_of, tag_of


@pytest.mark.parametrize(("code", "name"), LANGUAGES.items())
def test_a_language_has_whispers_name(code: str, name: str) -> None:
    """The AI SDK and Bazarr know languages by the names of Whisper's own list."""
    assert name_of(tag_of(code)) == name
    assert name_of(tag_of(name)) == name
