"""The models on this host: in the hub's cache, converted by the services, and bundled."""

import contextlib
import re
import shutil
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from voxroute_orchestrator.engines import installed
from voxroute_orchestrator.errors import OutputError, UsageError
from voxroute_orchestrator.settings import Settings, bundled_models
from voxroute_serving.asr.whisper.family import ALIASES
from voxroute_serving.models import hub

_CONVERTED = re.compile(r"(?P<kind>.+)-(?P<content>[0-9a-f]{40}|[0-9a-f]{32})")


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model on this host."""

    name: str
    """A hub id, the name of a bundled directory, or that of a converted one in the cache."""
    kind: Literal["hub", "converted", "bundled"]
    revision: str
    """The hub's commit, or the beginning of a checksum of the contents."""
    bytes: int
    last_used: datetime | None
    """When a file of it was last read, as far as the file system notes that."""
    path: Path
    source: str = ""
    """What a converted model was made from; empty where that is not on this host any more."""


def models(settings: Settings) -> list[LocalModel]:
    """Every model on this host, by kind and name."""
    cached = _in_hub_cache()
    bundled = _bundled(settings)
    sources = {model.revision: model.name for model in cached}
    for model in bundled:
        sources[hub.content_key(model.path)] = model.name
    return [*cached, *_converted(settings.model_cache_dir, sources), *bundled]


def of_name(settings: Settings, name: str) -> list[LocalModel]:
    """What is kept here under a name: in the hub's cache, and what was converted from it.

    A well-known name stands for the models of all services. Raises UsageError where there is none,
    and for bundled models, which belong to the installation.
    """
    asked = ALIASES.get(name, name)
    names = {asked, *(e.hub_ids[asked] for e in installed() if asked in e.hub_ids)}
    found = [model for model in models(settings) if names & {model.name, model.source}]
    removable = [model for model in found if model.kind != "bundled"]
    if not removable:
        raise UsageError(
            f"{name} is bundled and stays"
            if found
            else f"there is no model {name!r} on this host; `voxroute models list` shows them"
        )
    return removable


def remove(chosen: Sequence[LocalModel]) -> int:
    """Removes models from the disk; the bytes that are free now. Raises OutputError."""
    freed = 0
    commits = [model.revision for model in chosen if model.kind == "hub"]
    try:
        if commits:
            from huggingface_hub import scan_cache_dir  # noqa: PLC0415 - takes a second

            strategy = scan_cache_dir().delete_revisions(*commits)
            freed += strategy.expected_freed_size
            strategy.execute()
        for model in chosen:
            if model.kind == "converted":
                # renamed first: a service finds all of it or nothing, and cleans up such names
                doomed = model.path.with_name(f"{model.path.name}.tmp{uuid.uuid4().hex}")
                model.path.rename(doomed)
                shutil.rmtree(doomed)
                freed += model.bytes
    except OSError as error:
        raise OutputError(
            f"{error.filename or 'a model'} cannot be removed: {error.strerror}"
        ) from error
    return freed


def _in_hub_cache() -> list[LocalModel]:
    from huggingface_hub import CacheNotFound, scan_cache_dir  # noqa: PLC0415 - as above

    try:
        repositories = scan_cache_dir().repos
    except CacheNotFound:
        return []
    return sorted(
        (
            LocalModel(
                name=repository.repo_id,
                kind="hub",
                revision=revision.commit_hash,
                bytes=revision.size_on_disk,
                last_used=datetime.fromtimestamp(repository.last_accessed, UTC),
                path=revision.snapshot_path,
            )
            for repository in repositories
            if repository.repo_type == "model"
            for revision in repository.revisions
        ),
        key=lambda model: (model.name, model.revision),
    )


def _converted(cache_dir: Path, sources: dict[str, str]) -> list[LocalModel]:
    found: list[LocalModel] = []
    for path in sorted((cache_dir / "converted").glob("*")):
        match = _CONVERTED.fullmatch(path.name)
        if match is not None and path.is_dir():
            size, last_used = _measured(path)
            content = match["content"]
            found.append(
                LocalModel(
                    name=path.name,
                    kind="converted",
                    revision=content,
                    bytes=size,
                    last_used=last_used,
                    path=path,
                    source=sources.get(content, ""),
                )
            )
    return found


def _bundled(settings: Settings) -> list[LocalModel]:
    folder = bundled_models(settings)
    if folder is None:
        return []
    found: list[LocalModel] = []
    for path in sorted(folder.iterdir()):
        if (path / "config.json").is_file():
            size, last_used = _measured(path)
            revision = hub.revision_of(path)
            found.append(LocalModel(path.name, "bundled", revision, size, last_used, path))
    return found


def _measured(directory: Path) -> tuple[int, datetime | None]:
    """Bytes of the files of a directory, and when one of them was last read."""
    size, read_at = 0, 0.0
    for path in _files(directory):
        with contextlib.suppress(OSError):  # removed meanwhile
            status = path.stat()
            size += status.st_size
            read_at = max(read_at, status.st_atime)
    return size, datetime.fromtimestamp(read_at, UTC) if read_at else None


def _files(directory: Path) -> Iterable[Path]:
    return (path for path in directory.rglob("*") if path.is_file())
