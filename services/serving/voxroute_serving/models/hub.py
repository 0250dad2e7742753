"""Model names to local directories, and the cache of converted models."""

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

from voxroute_serving.bounds import quoted, shortened
from voxroute_serving.domain import Activity
from voxroute_serving.errors import ModelGatedError, ModelNotFoundError, ModelUnavailableError

SAFETENSORS = ("model.safetensors", "model-*-of-*.safetensors")
"""Weights as save_pretrained names them; other variants (model.fp32-...) lie beside some."""
PICKLED_FILES = ("pytorch_model*.bin", "pytorch_model.bin.index.json")
"""Weights that are pickled; fetched only where a model has no others."""
TO_THE_SERVICE = "start the service with HF_TOKEN set to it"
"""How a service is given a token; ends a sentence that begins with creating one."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_NOT_WEIGHTS = {".md", ".gitattributes", ".gitignore", ".lock"}  # changes here change no answer
_BLOCK_BYTES = 1 << 20
_TELL_EVERY_S = 2.0  # how far a download is
_MEGABYTE = 1_000_000

_fingerprints: dict[tuple[tuple[str, int, int], ...], str] = {}
"""Digests by (path, size, mtime) of all files: reading gigabytes again takes seconds."""


def local_directory(
    name_or_dir: str,
    *,
    offline: bool,
    token: str | None = None,
    allow_patterns: Sequence[str] | None = None,
    revision: str | None = None,
    activity: Activity | None = None,
) -> Path:
    """The directory of a model: a local one as it is, a hub id downloaded or from the hub's cache.

    Blocks while it downloads, and tells `activity` how far it is. Raises ModelNotFoundError,
    ModelUnavailableError.
    """
    directory = Path(name_or_dir).expanduser()
    if name_or_dir and directory.is_dir():
        return directory.resolve()
    if not is_hub_id(name_or_dir):
        raise ModelNotFoundError(
            f"there is no model {quoted(name_or_dir)}: it is neither a directory of this host nor a"
            " hub id such as openai/whisper-small"
        )
    from huggingface_hub import (  # noqa: PLC0415 - takes a second
        snapshot_download,  # pyright: ignore[reportUnknownVariableType]
    )

    with (
        hub_errors(name_or_dir, revision, offline=offline, has_token=token is not None),
        _telling(activity, name_or_dir),
    ):
        return Path(
            snapshot_download(
                name_or_dir,
                revision=revision,
                allow_patterns=list(allow_patterns) if allow_patterns is not None else None,
                token=token if token is not None else False,
                local_files_only=offline,
            )
        )


def cached_file(hub_id: str, name: str) -> Path | None:
    """Where a file of a hub's model is on this machine; None where it is not."""
    from huggingface_hub import constants  # noqa: PLC0415 - only where a hub is asked for

    if not Path(constants.HF_HUB_CACHE, _folder_of(hub_id)).is_dir():
        return None
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415 - takes a second

    path = try_to_load_from_cache(hub_id, name)
    return Path(path) if isinstance(path, str) else None


def is_hub_id(name: str) -> bool:
    """Whether a name may be that of a model on the hub."""
    return _HUB_ID.fullmatch(name) is not None


@contextlib.contextmanager
def hub_errors(
    name: str,
    revision: str | None = None,
    *,
    offline: bool = False,
    has_token: bool = False,
    give_token: str = TO_THE_SERVICE,
) -> Generator[None]:
    """What the hub's library raises in the block, as an error that says what to do.

    Raises ModelNotFoundError, ModelGatedError, ModelUnavailableError.
    """
    from huggingface_hub import constants, errors  # noqa: PLC0415 - takes a second

    name = shortened(name)
    page = f"{constants.ENDPOINT}/{name}"
    token = f"create a token at {constants.ENDPOINT}/settings/tokens and {give_token}"
    try:
        yield
    except errors.GatedRepoError as error:
        raise ModelGatedError(
            f"the model {name} is gated, and the account of the token has no access: accept its"
            f" licence at {page} with that account, wait where somebody has to grant it, then try"
            " again"
            if has_token
            else f"the model {name} is gated: accept its licence at {page}, {token}"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ModelNotFoundError(
            f"the model {name} has no revision {quoted(str(revision))}"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelNotFoundError(
            f"the hub has no model {name}; check its name. If it is private, {token}"
        ) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        offline = offline or constants.HF_HUB_OFFLINE
        reason = "no download is allowed (--offline)" if offline else "the hub gives no answer"
        raise ModelUnavailableError(
            f"the model {name} is not on this host and {reason}; download it where there is a"
            " network and name its directory instead"
        ) from error
    except errors.HfHubHTTPError as error:
        raise ModelUnavailableError(
            f"the hub did not give the model {name}; retry later, or download it and name its"
            " directory instead"
        ) from error
    except OSError as error:
        raise ModelUnavailableError(
            f"the model {name} cannot be downloaded ({error.strerror or 'no connection'}); check"
            " network and disk, or name a local directory instead"
        ) from error


@contextlib.contextmanager
def _telling(activity: Activity | None, name: str) -> Generator[None]:
    """Tells how much of a model is here while the block downloads it."""
    if activity is None:
        yield
        return
    from huggingface_hub import constants  # noqa: PLC0415 - as above

    blobs = Path(constants.HF_HUB_CACHE, _folder_of(name), "blobs")
    before = _folder_bytes(blobs)
    done = threading.Event()

    def tell() -> None:
        while not done.wait(_TELL_EVERY_S):
            new = (_folder_bytes(blobs) - before) // _MEGABYTE
            if new > 0:
                activity(f"fetching the model, {new} MB so far")

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()


def _folder_of(hub_id: str) -> str:
    """The name of a model's folder in the hub's cache."""
    return f"models--{hub_id.replace('/', '--')}"


def _folder_bytes(folder: Path) -> int:
    sizes = 0
    with contextlib.suppress(OSError):  # a file was renamed meanwhile, or nothing is there yet
        sizes = sum(path.stat().st_size for path in folder.iterdir())
    return sizes


def revision_of(directory: Path) -> str:
    """The commit of a hub snapshot, else "sha256:" and 12 digits over the files' contents.

    Names and contents count, dates and documentation do not. Reads every file the first time.
    """
    resolved = directory.resolve()
    if resolved.parent.name == "snapshots" and _COMMIT.fullmatch(resolved.name):
        return resolved.name
    return f"sha256:{_fingerprint(resolved)[:12]}"


def content_key(source: Path) -> str:
    """What the cache names the conversions of a directory by: its commit, or 32 digits over it."""
    revision = revision_of(source)
    return _fingerprint(source.resolve())[:32] if revision.startswith("sha256:") else revision


def converted(source: Path, kind: str, convert: Callable[[Path], None], *, cache_dir: Path) -> Path:
    """The directory that `convert` filled for this source, made once for each content and kind.

    `kind` is a short name of format and numeric type ("ctranslate2-int8"). `convert` gets an empty
    directory; where it raises nothing is kept. Other processes that want the same wait for the
    first. Raises what `convert` raises, and ModelUnavailableError where the cache cannot be
    written.
    """
    target = cache_dir / "converted" / f"{kind}-{content_key(source)}"
    if target.is_dir():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target.with_name(target.name + ".lock")):
            if target.is_dir():  # another process was faster
                return target
            for abandoned in target.parent.glob(f"{target.name}.tmp*"):
                shutil.rmtree(abandoned, ignore_errors=True)
            unfinished = Path(tempfile.mkdtemp(prefix=f"{target.name}.tmp", dir=target.parent))
            try:
                convert(unfinished)
                unfinished.chmod(0o755)
                unfinished.rename(target)
            except BaseException:
                shutil.rmtree(unfinished, ignore_errors=True)
                raise
    except OSError as error:
        full = error.errno == errno.ENOSPC
        advice = "free some space there" if full else "make it writable"
        raise ModelUnavailableError(
            f"the converted model cannot be kept in {cache_dir} ({error.strerror or error});"
            f" {advice}, or choose another directory with --model-cache-dir"
        ) from error
    return target


@contextlib.contextmanager
def _locked(path: Path) -> Generator[None]:
    """Holds a lock between processes. The file stays: removing it would let two in."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fingerprint(directory: Path) -> str:
    """Hexadecimal SHA-256 over names, sizes and contents of the files of a directory."""
    files = sorted(
        Path(folder, name)
        for folder, _, names in os.walk(directory, followlinks=True)
        for name in names
    )
    wanted = [
        path
        for path in files
        if path.suffix not in _NOT_WEIGHTS
        and path.name not in _NOT_WEIGHTS
        and not any(part.startswith(".") for part in path.relative_to(directory).parts[:-1])
    ]
    stats = [(path, path.stat()) for path in wanted]
    signature = tuple((str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats)
    known = _fingerprints.get(signature)
    if known is not None:
        return known
    digest = hashlib.sha256()
    for path, stat in stats:
        digest.update(f"{path.relative_to(directory).as_posix()}\0{stat.st_size}\0".encode())
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
    _fingerprints[signature] = digest.hexdigest()
    return digest.hexdigest()
