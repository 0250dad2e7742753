"""Whose a data folder is: the job service works in none that is not its own.

A folder is the service's by its marker, a file with a version and a random id that the store in
the folder has, too. The service makes one in a folder that is new or empty, and in one that an
earlier version has worked in, which had no marker: that is told by its store and by nothing else
lying where the service keeps its files.

Nothing is changed in a folder before it is known to be the service's and no other service's.
"""

import contextlib
import json
import os
import re
import secrets
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from voxroute_orchestrator.files import make_private
from voxroute_orchestrator.jobs.database import (
    STORE_NAME,
    disk,
    exclusive_lock,
    id_of_earlier_store,
    shared_lock,
)
from voxroute_orchestrator.jobs.errors import StoreError
from voxroute_serving.telemetry.logs import get_logger

MARKER_NAME = "voxroute-data.json"
LOCK_NAME = "lock.sqlite"
UPLOADS, JOBS, ASIDE = "uploads", "jobs", "aside"

_KIND = "voxroute job service"
_SHARED_KIND = "voxroute fleet"  # which earlier versions refuse: they would put its jobs aside
_COPIES_KIND = "voxroute copies"
_VERSION = 1
_MARKER_BYTES = 4096  # more than any marker has
_MAGIC_BYTES = 8  # of SQLite's rollback journals; zero where nothing is to be rolled back
_ID = re.compile(r"[0-9a-f]{32}")
_NEW_MARKER = re.compile(re.escape(f".{MARKER_NAME}.") + r"[0-9a-f]{16}")
_IS_OTHERS = {
    _KIND: "{} is that of a job service which keeps its jobs in it; name another folder with"
    " --data-dir, or leave out --engine",
    _SHARED_KIND: "{} is that of services that share their jobs; start this one with their --engine"
    " and --engine-files folder, or name another folder with --data-dir",
    _COPIES_KIND: "{} is that of a service whose files are on a server or in a bucket; start it"
    " with its --engine and --engine-files server or s3://..., or name another folder with"
    " --data-dir",
}
_OTHERS_MAY = stat.S_IRWXG | stat.S_IRWXO
_FOLDERS = (UPLOADS, JOBS, ASIDE)
_DATABASES = tuple(
    name + suffix for name in (STORE_NAME, LOCK_NAME) for suffix in ("", "-wal", "-shm", "-journal")
)
# What the service, of whatever version, has in its folders:
_UPLOAD = re.compile(r"tmp[a-z0-9_]{8}|[0-9a-f]{32}-[a-z0-9_]+\.part")
_JOB = re.compile(r"[0-9a-f]{12}")
_OF_A_JOB = re.compile(r"media|results|revisions|sound|journal\.sqlite(-wal|-shm|-journal)?")

_log = get_logger(__name__)


class OwnedFolder:
    """A data folder that is this process's until it ends, or until `close`.

    One that is `shared` is at the same time that of others who share it. One of `copies` has
    nothing that is not elsewhere as well.
    """

    def __init__(self, path: Path, *, shared: bool = False, copies: bool = False) -> None:
        """Takes the folder, which is made or marked where it may be.

        Raises StoreError with the reason why the service may not work in it; StoreBusyError where
        another service does; DiskFullError.
        """
        self.path = _folder(path)
        self._shared = shared
        self._kind = _SHARED_KIND if shared else _COPIES_KIND if copies else _KIND
        _check(self.path, self._kind)  # the lock's file is the first that is written
        with disk(self.path):
            make_private(self.path / LOCK_NAME)
        self._lock = (shared_lock if shared else exclusive_lock)(self.path / LOCK_NAME)
        try:
            self.id = self._marked()
            with disk(self.path):
                self._keep_to_ourselves()
        except BaseException:
            self._lock.close()
            raise

    def close(self) -> None:
        """Lets another process have the folder."""
        self._lock.close()

    def _marked(self) -> str:
        """The folder's id. Makes the marker where there is none."""
        found = _check(self.path, self._kind)
        if not (self.path / MARKER_NAME).exists():
            found = found or uuid.uuid4().hex
            was_new = not (self.path / STORE_NAME).exists()
            with disk(self.path):
                _write_marker(self.path, found, self._kind)
            found = _check(self.path, self._kind)  # another one may have been faster
            tell = _log.info if was_new else _log.warning
            tell("the data folder had no marker; it has one now", path=str(self.path), id=found)
        # made by another one after the look
        return found or _check(self.path, self._kind)

    def _keep_to_ourselves(self) -> None:
        """Makes the folders, and takes what others may do from what is there already."""
        mended = _mend(self.path, 0o700)
        for name in _FOLDERS[:2]:
            (self.path / name).mkdir(mode=0o700, exist_ok=True)
        for name in (MARKER_NAME, *_DATABASES):
            mended += _mend(self.path / name, 0o600)
        for name in _FOLDERS:
            mended += _mend(self.path / name, 0o700)
        for name in _FOLDERS[:2] if not self._shared else ():  # others work there
            mended += _mend_below(self.path / name)
        if mended:
            _log.warning("files of the data folder were open to others; no longer", count=mended)


def _folder(path: Path) -> Path:
    """The real folder, which is made. Raises StoreError, DiskFullError."""
    with disk(path):
        if path.is_symlink() and not path.exists():
            raise StoreError(
                f"the data folder {path} is a link that leads nowhere; make the folder that it"
                " names, or name another one with --data-dir"
            )
        if path.exists() and not path.is_dir():
            raise StoreError(f"{path} is no folder; name one with --data-dir")
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path.resolve(strict=True)


def _check(folder: Path, kind: str) -> str:
    """The id that the folder has; "" for none yet. Changes nothing.

    Raises StoreError where the service may not work in the folder.
    """
    with disk(folder):
        _check_owner(folder)
        names = _names_in(folder)
        foreign = [name for name in names if not _means_nothing(folder / name)]
        if foreign and not {MARKER_NAME, STORE_NAME}.intersection(names):
            raise StoreError(
                f"{folder} is not the job service's: it has no marker {MARKER_NAME}, and it holds"
                f" {_some(foreign)}. Name a folder that is new or empty with --data-dir, such as"
                f" {folder / 'voxroute'}"
            )
        for name in names:
            if name in _FOLDERS or name in _DATABASES or name == MARKER_NAME:
                _check_kind(folder / name)
        if MARKER_NAME in names:
            return _read_marker(folder / MARKER_NAME, kind)
        if kind != _KIND and STORE_NAME in names:
            raise StoreError(_IS_OTHERS[_KIND].format(folder))
        if not foreign:
            return ""
        earlier = id_of_earlier_store(folder / STORE_NAME)
        strange = list(_strange(folder, names))
    if strange:
        raise StoreError(
            f"{folder} has no marker {MARKER_NAME}. Its {STORE_NAME} is a job service's, but"
            f" {_some(strange)} cannot be of the service; move that elsewhere and start again, or"
            " name a folder that is new or empty with --data-dir"
        )
    return earlier


def _check_owner(path: Path) -> None:
    """Raises StoreError where the file or folder is another user's."""
    owner, own = path.lstat().st_uid, os.geteuid()
    if owner != own:
        raise StoreError(
            f"{path} belongs to user {owner}, and the service runs as user {own}; give it to that"
            " user (chown), or name a folder with --data-dir that the service can make for itself"
        )


def _check_kind(path: Path) -> None:
    """Raises StoreError for a link, and for a file in place of a folder or the other way round."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:  # a -wal goes when the last who reads the store has done so
        return
    wanted = "folder" if path.name in _FOLDERS else "file"
    if not (stat.S_ISDIR(mode) if wanted == "folder" else stat.S_ISREG(mode)):
        raise StoreError(
            f"{path} is to be a {wanted} and is {'a link' if stat.S_ISLNK(mode) else 'none'}; move"
            " it elsewhere and put what is the service's in its place, or name another folder with"
            " --data-dir"
        )
    _check_owner(path)


def _means_nothing(path: Path) -> bool:
    """Whether a folder with this in it is as good as empty: a start cut short may leave it."""
    try:
        status = path.lstat()
    except FileNotFoundError:  # of another service that starts at the same moment
        return True
    if stat.S_ISDIR(status.st_mode):
        # mkfs makes lost+found
        return path.name == "lost+found" or (path.name in _FOLDERS and not _names_in(path))
    if not stat.S_ISREG(status.st_mode):
        return False
    if _NEW_MARKER.fullmatch(path.name):
        return status.st_size <= _MARKER_BYTES
    if path.name == f"{LOCK_NAME}-journal":  # as a lock has it that never changes anything
        with path.open("rb") as file:
            return not any(file.read(_MAGIC_BYTES))
    return path.name in _DATABASES and not status.st_size


def _strange(folder: Path, names: list[str]) -> Iterator[str]:
    """What no version of the service has put into the folder.

    Names with a dot are another program's, left alone: the folder may be the home of the user
    that the service runs as.
    """
    for name in names:
        if name.startswith(".") or name in _DATABASES or name == "lost+found":
            continue
        if name not in _FOLDERS:
            yield name
    for name in _names_in(folder / UPLOADS):
        if not _UPLOAD.fullmatch(name) or not (folder / UPLOADS / name).is_file():
            yield f"{UPLOADS}/{name}"
    for name in _names_in(folder / JOBS):
        if not _JOB.fullmatch(name) or not (folder / JOBS / name).is_dir():
            yield f"{JOBS}/{name}"
            continue
        for below in _names_in(folder / JOBS / name):
            if not _OF_A_JOB.fullmatch(below):
                yield f"{JOBS}/{name}/{below}"


def _names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def _some(names: list[str]) -> str:
    shown = ", ".join(name[:80] for name in names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown  # noqa: PLR2004 - those shown


def _read_marker(path: Path, kind: str) -> str:
    """The id. Raises StoreError for a marker that this version does not understand."""
    with path.open("rb") as file:
        text = file.read(_MARKER_BYTES)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    marker = cast("dict[str, object]", content) if isinstance(content, dict) else {}
    version, own_id = marker.get("version"), marker.get("id")
    found = marker.get("kind")
    if isinstance(found, str) and found in _IS_OTHERS and found != kind:
        raise StoreError(_IS_OTHERS[found].format(path.parent))
    if found != kind or not isinstance(version, int):
        raise StoreError(
            f"{path} is no marker of the job service; restore it from a backup, or name another"
            " folder with --data-dir"
        )
    if version > _VERSION:
        raise StoreError(
            f"{path.parent} is of a newer voxroute (version {version} of its marker, this one knows"
            f" {_VERSION}); install that one, or name another folder with --data-dir"
        )
    if version < _VERSION or not isinstance(own_id, str) or not _ID.fullmatch(own_id):
        raise StoreError(
            f"{path} is damaged: no voxroute has written such a marker; restore it from a backup,"
            " or name another folder with --data-dir"
        )
    return own_id


def _write_marker(folder: Path, own_id: str, kind: str) -> None:
    """Writes the marker, whole and to stay, unless it is there. Raises OSError."""
    new = folder / f".{MARKER_NAME}.{secrets.token_hex(8)}"
    text = json.dumps({"kind": kind, "version": _VERSION, "id": own_id}) + "\n"
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        if kind == _SHARED_KIND:
            with contextlib.suppress(FileExistsError):
                os.link(new, folder / MARKER_NAME)  # `replace` would take the place of another's
        else:
            new.replace(folder / MARKER_NAME)  # there are file systems without links
        sync_folder(folder)
    finally:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Makes the names in a folder outlive a power cut. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _mend(path: Path, mode: int) -> int:
    """How many files had their permissions mended: 1 or 0."""
    with contextlib.suppress(FileNotFoundError):
        if path.lstat().st_mode & _OTHERS_MAY:
            path.chmod(mode)
            return 1
    return 0


def _mend_below(folder: Path) -> int:
    """The same for all that lies in a folder. Links are not followed; others' files are left alone.

    Nobody can reach the latter anyway: the folder itself is closed.
    """
    mended, own = 0, os.geteuid()
    for _, folders, files, at in os.fwalk(folder):
        for names, mode in ((folders, 0o700), (files, 0o600)):
            for name in names:
                status = os.lstat(name, dir_fd=at)
                if stat.S_ISLNK(status.st_mode) or not status.st_mode & _OTHERS_MAY:
                    continue
                if status.st_uid == own:
                    os.chmod(name, mode, dir_fd=at)
                    mended += 1
    return mended
