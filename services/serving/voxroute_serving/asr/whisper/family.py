"""Names around Whisper that every Whisper engine shares: of languages and of models."""

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from voxroute_serving.bounds import quoted
from voxroute_serving.errors import ModelNotFoundError

ALIASES: Mapping[str, str] = {"large": "large-v3", "turbo": "large-v3-turbo"}
"""Names of models that stand for others."""

TRANSCRIBE_ONLY = ("turbo", "distil")
"""Parts of the names of models whose makers trained them on transcription alone; asked to
translate, they transcribe."""

# Whisper's token for a language where it is not the BCP-47 tag: "jw" was withdrawn for "jv".
_BCP47_OF_TOKEN: Mapping[str, str] = {"jw": "jv"}
_TOKEN_OF_BCP47: Mapping[str, str] = {tag: token for token, tag in _BCP47_OF_TOKEN.items()}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def bcp47(token: str) -> str:
    """The BCP-47 tag of Whisper's language token "hi" or "<|hi|>"."""
    code = token.removeprefix("<|").removesuffix("|>")
    return _BCP47_OF_TOKEN.get(code, code)


def whisper_code(language: str) -> str:
    """Whisper's own code for a BCP-47 tag; script and region play no part in it."""
    primary = language.partition("-")[0].lower()
    return _TOKEN_OF_BCP47.get(primary, primary)


def named_directories(names: Iterable[str], hub_ids: Mapping[str, str]) -> dict[str, Path]:
    """Directories that exist, resolved, by their last part; of two with one name the first counts.

    A well-known name is never a directory.
    """
    found: dict[str, Path] = {}
    for name in names:
        if name and name not in hub_ids and Path(name).expanduser().is_dir():
            directory = Path(name).expanduser().resolve()
            found.setdefault(directory.name, directory)
    return found


def resolve_model(
    model: str,
    *,
    configured: str,
    default: str,
    directories: Mapping[str, Path],
    hub_ids: Mapping[str, str],
) -> str:
    """The canonical id of a model name: a directory's, a well-known name, or a hub id.

    "" is the configured model, and without one the engine's default. `directories` are those that
    the operator named (`named_directories`); a client cannot reach any other.
    Raises ModelNotFoundError.
    """
    asked = model.strip()
    name = asked or configured or default
    name = ALIASES.get(name, name)
    if name in directories or name in hub_ids:
        return name
    looks_like_a_path = name.startswith((".", "/", "~")) or name.count("/") > 1
    is_the_operators = asked in ("", configured)
    if looks_like_a_path or is_the_operators:
        path = Path(name).expanduser().resolve()
        for known, directory in directories.items():
            if path == directory:
                return known
    if looks_like_a_path and is_the_operators:
        raise ModelNotFoundError(f"the directory {name!r} of --model does not exist")
    if _HUB_ID.fullmatch(name):
        return name
    known_names = [*directories, *hub_ids]
    near = difflib.get_close_matches(name, known_names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known names: {', '.join(known_names)}."
    raise ModelNotFoundError(
        f"there is no model {quoted(name)}; {hint} A hub id is OWNER/NAME; a directory is for the"
        " operator to name (--model, --model-dirs)"
    )
