"""What a local service could not do, found out before it is started: from files alone.

What cannot be told without the hub, such as the languages of a model that is not here yet, is left
to the service.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from voxroute_orchestrator.errors import RefusedError, UsageError
from voxroute_orchestrator.models.hub_access import hub_cache
from voxroute_orchestrator.transcript import is_among
from voxroute_serving.asr.whisper.family import named_directories, resolve_model
from voxroute_serving.errors import ServingError
from voxroute_serving.manifest import Engine

_PAIRS_NAMED = 20


def check_speech(model: str, language: str | None, engine: Engine, *, offline: bool) -> None:
    """Looks whether the engine could load the model, and recognise the language.

    A language of None is to be detected. What an engine without well-known names takes it says
    itself. Raises UsageError for a model that is not here,
    RefusedError for a language.
    """
    hub_ids = engine.hub_ids
    if not hub_ids:
        return
    directories = named_directories([model], hub_ids)
    try:
        name = resolve_model(
            model, configured=model, default="", directories=directories, hub_ids=hub_ids
        )
    except ServingError as error:
        raise UsageError(str(error)) from error
    if name in directories:
        directory: Path | None = _model_in(directories[name], "--model")
    else:
        directory = _from_hub(hub_ids.get(name, name), "--model", offline=offline)
    spoken = ("en",) if name.endswith(".en") else _languages(directory)
    if language is None or not spoken:
        return
    if not is_among(language, spoken):
        raise RefusedError(
            f"the model {name} recognises {', '.join(spoken)}, not {language}; name another one"
            " with --model, or another language with -s"
        )


def check_translation(
    models: Sequence[str], pairs: Sequence[tuple[str, str]], *, offline: bool
) -> None:
    """Looks whether the models could be loaded, and one of them translate each pair.

    No models are the service's own choice. Raises UsageError for a model that is not here,
    RefusedError for a pair.
    """
    try:
        from voxroute_translate import languages, registry  # noqa: PLC0415 - half a second
    except ImportError:  # the service says itself what it can
        return
    directories = [_translation_model(name, offline=offline) for name in models]
    cards: list[registry.ModelCard] = []
    for name, directory in zip(models, directories, strict=True):
        if directory is None:
            return  # what it can is known once it is here
        try:
            cards.append(registry.describe(name, directory, lambda _: ""))
        except ServingError as error:
            raise UsageError(f"--translate-model: {error}") from error
    offered = sorted({(of.tag, to.tag) for card in cards for of, to in card.pairs()})
    for source, target in pairs if cards else ():
        try:
            asked = languages.parse(source), languages.parse(target)
        except ValueError:
            continue  # a tag that the service has to judge
        if not any(card.supports(*asked) for card in cards):
            named = ", ".join(f"{of}-{to}" for of, to in offered[:_PAIRS_NAMED])
            more = len(offered) - _PAIRS_NAMED
            raise RefusedError(
                f"the model {', '.join(card.name for card in cards)} does not translate {source} to"
                f" {target}; it offers {named}{f' and {more} more' if more > 0 else ''}. Name"
                " another one with --translate-model"
            )


def _translation_model(name: str, *, offline: bool) -> Path | None:
    """The directory of a model, None where it has to be fetched first. Raises UsageError."""
    flag, path = "--translate-model", Path(name).expanduser()
    if path.is_dir():
        return _model_in(path, flag)
    return _from_hub(name.partition("@")[0], flag, offline=offline)


def _model_in(directory: Path, flag: str) -> Path:
    """The directory. Raises UsageError where it holds no model."""
    if not (directory / "config.json").is_file():
        raise UsageError(f"{flag}: {directory} holds no config.json, so it is no model")
    return directory


def _from_hub(hub_id: str, flag: str, *, offline: bool) -> Path | None:
    """The directory of a hub's model in the cache, None where it has to be fetched first.

    Raises UsageError.
    """
    if hub_id.startswith((".", "/", "~")) or hub_id.count("/") > 1:
        raise UsageError(f"{flag}: there is no directory {hub_id}; check the path")
    found = newest_snapshot(hub_id)
    if found is not None:
        return found
    if offline:
        raise UsageError(
            f"{flag}: the model {hub_id} is not on this host, and --offline allows no download;"
            " fetch it with `voxroute models pull` where there is a network, or name a directory"
        )
    return None


def newest_snapshot(hub_id: str) -> Path | None:
    """The directory of a hub's model in the cache of this host; None where it is not there."""
    snapshots = hub_cache(os.environ) / f"models--{hub_id.replace('/', '--')}" / "snapshots"
    try:
        found = sorted(snapshots.glob("*/config.json"), key=lambda path: path.lstat().st_mtime)
    except (OSError, ValueError):  # a name that is longer than any file's, a folder that is closed
        return None
    return found[-1].parent if found else None


def _languages(directory: Path | None) -> tuple[str, ...]:
    """The languages that the voxroute.json of a speech model names; none where it names none."""
    if directory is None:
        return ()
    try:
        document: object = json.loads((directory / "voxroute.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ()
    named = cast("dict[str, Any]", document).get("languages") if isinstance(document, dict) else ()
    return tuple(str(tag) for tag in cast("Sequence[object]", named or ()))
