"""Models from the hub into its library's cache, where the services look: with resume and checksums.

huggingface_hub does the fetching: a file that was cut off is gone on with. Here it is chosen which
files are wanted, told how far they are, and compared what has come with the hub's own checksums.
"""

import fnmatch
import hashlib
import json
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, cast

from voxroute_orchestrator.errors import (
    OutputError,
    RefusedError,
    ServiceUnavailableError,
    UsageError,
    VoxrouteError,
)
from voxroute_serving.asr.whisper.family import ALIASES
from voxroute_serving.errors import ModelGatedError, ModelNotFoundError, ServingError
from voxroute_serving.models import hub

TO_THE_COMMAND = "set HF_TOKEN to it or run `hf auth login`, then run this again"

# What the services read besides weights: configurations, vocabularies, and the card, which names
# the licence.
_SMALL_FILES = ("*.json", "*.txt", "*.model", "*.spm", "model.SRC", "model.TGT", "README.md")
# The first kind that a model has: CTranslate2, MLX, save_pretrained's, others, pickles.
_WEIGHTS = (
    ("model.bin",),
    ("weights.safetensors",),
    ("weights.npz",),
    hub.SAFETENSORS,
    ("*.safetensors",),
    hub.PICKLED_FILES,
)
_PIPELINE = "config.yaml"  # of pyannote; its parts may lie in folders
_PIPELINE_FILES = (_PIPELINE, "*pytorch_model.bin", "*.npz", "README.md")
_INDEX = "model.safetensors.index.json"
_BLOCK_BYTES = 1 << 20
_LOOK_EVERY_S = 0.2


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a model on the hub."""

    name: str
    size: int
    """Bytes."""
    digest: str
    """SHA-256 of a large file, else git's SHA-1; both are what the hub calls the ETag."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a model at a commit."""

    hub_id: str
    commit: str
    files: tuple[HubFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


class Progress(Protocol):
    """Where a download tells how far it is."""

    def begin(self, file: HubFile, place: int, of: int) -> None:
        """A file is looked at next; which one of how many."""
        ...

    def advance(self, file: HubFile, done: int) -> None:
        """So many bytes of it are here. May come from another thread."""
        ...

    def finish(self, file: HubFile) -> None:
        """It is here and is what the hub has."""
        ...


def hub_id_of(name: str, known: Mapping[str, str] = MappingProxyType({})) -> str:
    """The hub's id of a well-known name of an engine, or the id itself.

    Raises UsageError.
    """
    name = ALIASES.get(name, name)
    if name in known:
        return known[name]
    if "/" in name and hub.is_hub_id(name):
        return name
    raise UsageError(
        f"there is no model {name!r}; well-known names are {', '.join(known) or 'none'}, and"
        " others have a hub id, OWNER/NAME"
    )


def listing(hub_id: str, revision: str | None = None) -> Listing:
    """What the services would read of a model, as the hub has it now.

    Raises UsageError (no such model), RefusedError (gated), ServiceUnavailableError.
    """
    from huggingface_hub import HfApi, get_token  # noqa: PLC0415 - takes a second

    try:
        with hub.hub_errors(
            hub_id, revision, has_token=get_token() is not None, give_token=TO_THE_COMMAND
        ):
            info = HfApi().model_info(hub_id, revision=revision, files_metadata=True)
    except ServingError as error:
        raise _of_serving(error) from error
    files = [
        HubFile(
            name=sibling.rfilename,
            size=(sibling.lfs.size if sibling.lfs is not None else sibling.size) or 0,
            digest=(sibling.lfs.sha256 if sibling.lfs is not None else sibling.blob_id) or "",
        )
        for sibling in info.siblings or ()
    ]
    names = set(wanted([file.name for file in files]))
    if not names:
        raise UsageError(
            f"{hub_id} holds no weights that a service reads: safetensors, those of an engine's"
            " own format, or a pyannote pipeline"
        )
    chosen = tuple(file for file in files if file.name in names)
    return Listing(hub_id, info.sha or "", chosen)


def wanted(names: Sequence[str]) -> list[str]:
    """The files that a service would read, of those that a model has; none where it has no weights.

    Of several formats of the weights the first counts that a service reads without converting it;
    pickles only where there is nothing else.
    """
    if _PIPELINE in names:
        return [name for name in names if _matches(name, _PIPELINE_FILES)]
    top = [name for name in names if "/" not in name]
    for patterns in _WEIGHTS:
        weights = [name for name in top if _matches(name, patterns)]
        if any(not name.endswith(".json") for name in weights):
            small = [name for name in top if _matches(name, _SMALL_FILES)]
            return sorted({*weights, *small})
    return []


def pull(found: Listing, revision: str | None, told: Progress) -> Path:
    """The directory of a model with every file of the listing, each compared with its checksum.

    What is here already is compared and not fetched; what was cut off is gone on with. Raises as
    `listing` does, and OutputError where a file is not what the hub has: it is then removed.
    """
    from huggingface_hub import (  # noqa: PLC0415 - as above
        get_token,
        hf_hub_download,  # pyright: ignore[reportUnknownVariableType]
    )
    from huggingface_hub.utils.tqdm import disable_progress_bars  # noqa: PLC0415 - as above

    disable_progress_bars()
    directory = Path()
    for place, file in enumerate(found.files, start=1):
        told.begin(file, place, len(found.files))
        try:
            with (
                hub.hub_errors(
                    found.hub_id,
                    revision,
                    has_token=get_token() is not None,
                    give_token=TO_THE_COMMAND,
                ),
                _Watch(found.hub_id, file, told),
            ):
                path = Path(hf_hub_download(found.hub_id, file.name, revision=revision))
        except ServingError as error:
            raise _of_serving(error, "; run this again to go on where it stopped") from error
        directory = _snapshot(path, file)
        if found.commit and directory.name != found.commit:
            raise ServiceUnavailableError(
                f"{found.hub_id} has changed on the hub meanwhile; run this again"
            )
        _check(found.hub_id, path, file)
        told.finish(file)
    return directory


def local(hub_id: str, revision: str | None = None) -> Path:
    """The directory of a model in the cache; nothing is fetched.

    Raises UsageError where it is not there, or not all of it, with what is missing.
    """
    try:
        directory = hub.local_directory(hub_id, offline=True, revision=revision)
    except ServingError as error:
        raise UsageError(
            f"the model {hub_id} is not on this host and nothing may be fetched (--offline); run"
            " this without it, or bring the model here by hand and name its directory"
        ) from error
    missing = missing_files(directory)
    halves = list(_blobs(hub_id).glob("*.incomplete"))
    if missing:
        half = f" ({len(halves)} half fetched)" if halves else ""
        raise UsageError(
            f"the model {hub_id} is on this host without {', '.join(missing)}{half}, and nothing"
            " may be fetched (--offline); run `voxroute models pull` without it"
        )
    return directory


def missing_files(directory: Path) -> list[str]:
    """What a model's directory lacks, as far as its own files tell."""
    names = [path.relative_to(directory).as_posix() for path in directory.rglob("*")]
    if _PIPELINE in names:
        return []
    missing = [] if "config.json" in names else ["config.json"]
    shards: set[str] = set()
    if _INDEX in names:
        content: Any = json.loads((directory / _INDEX).read_text(encoding="utf-8"))
        shards = set(cast("dict[str, str]", content["weight_map"]).values())
    if shards - set(names):
        return [*missing, *sorted(shards - set(names))]
    return missing if wanted(names) else [*missing, "weights"]


class _Watch:
    """Tells how much of a file is here, from the size of what huggingface_hub writes."""

    def __init__(self, hub_id: str, file: HubFile, told: Progress) -> None:
        self._blob = _blobs(hub_id) / file.digest
        self._file = file
        self._told = told
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        half = self._blob.with_name(self._blob.name + ".incomplete")
        while not self._done.wait(_LOOK_EVERY_S):
            for path in (self._blob, half):
                try:
                    self._told.advance(self._file, path.stat().st_size)
                    break
                except OSError:  # not yet there, or just renamed
                    continue


def _check(hub_id: str, path: Path, file: HubFile) -> None:
    """Compares a file with the hub's checksum. Raises OutputError, with the file removed."""
    if not file.digest:
        return
    digest = hashlib.sha256()
    if len(file.digest) != 2 * digest.digest_size:  # git's own, of a file that is not large
        header = f"blob {path.stat().st_size}\0".encode()
        digest = hashlib.sha1(header, usedforsecurity=False)
    with path.open("rb") as content:
        while block := content.read(_BLOCK_BYTES):
            digest.update(block)
    if digest.hexdigest() == file.digest:
        return
    path.resolve().unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    raise OutputError(
        f"{file.name} of {hub_id} is damaged: its checksum is not that of the hub. It has been"
        " removed; run this again to fetch it anew"
    )


def _snapshot(path: Path, file: HubFile) -> Path:
    """The directory of the model that a file lies in, which may be in a folder of it."""
    return path.parents[file.name.count("/")]


def _blobs(hub_id: str) -> Path:
    from huggingface_hub import constants  # noqa: PLC0415 - takes a second

    folder = f"models--{hub_id.replace('/', '--')}"
    return Path(os.fspath(constants.HF_HUB_CACHE), folder, "blobs")


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _of_serving(error: ServingError, hint: str = "") -> VoxrouteError:
    """An error of the hub as one of the command's."""
    if isinstance(error, ModelNotFoundError):
        return UsageError(error.message)
    if isinstance(error, ModelGatedError):
        return RefusedError(error.message)
    return ServiceUnavailableError(error.message + hint)
