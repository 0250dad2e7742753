"""Results on the disk: each file is there as a whole, or not at all.

One run at a time makes those of a title in a folder.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import stat
import tempfile
from collections.abc import Generator, Iterable
from pathlib import Path

from voxroute_orchestrator.errors import OutputError, TakenError
from voxroute_orchestrator.names import fitted
from voxroute_serving.telemetry.logs import get_logger

_PID_DIGITS = 20  # more than any process id has
_WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}  # some network and FUSE mounts

_log = get_logger(__name__)


def write_atomic(path: Path, text: str) -> None:
    """Writes the file under a temporary name and renames it. Raises OutputError."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


@contextlib.contextmanager
def atomic(path: Path) -> Generator[Path]:
    """An empty file beside the path, which takes its name when the block ends well.

    An OSError of the block becomes an OutputError; after any error the path is as it was.
    """
    temporary: Path | None = None
    try:
        name = path.parent / f".voxroute-{secrets.token_hex(8)}.tmp"
        # not mkstemp: the kernel applies the umask, which cannot be asked for without a moment in
        # which another thread's files would have none
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        temporary = name
        yield temporary
        _flush(temporary)
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {_advice(error)}") from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Sees that the file is on the disk before it gets its name."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _advice(error: OSError) -> str:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return "the disk is full; free some space or name another folder with -o"
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return "no permission; name another folder with -o"
    if error.errno == errno.ENAMETOOLONG:
        return "its name is too long; rename the media file"
    return f"{error.strerror}; name another folder with -o"


def make_private(path: Path) -> None:
    """Sees that the file is there and that only its owner can read it. Raises OSError.

    It is never opened where it is there: closing it would end SQLite's locks on it (POSIX).
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    path.chmod(0o600)


@contextlib.contextmanager
def claimed(folder: Path, title: str) -> Generator[None]:
    """Keeps other runs from the results of a title in a folder, which is made.

    The lock goes with the process, however that ends. Raises TakenError where another run has it,
    OutputError where the folder cannot be written.
    """
    path = folder / fitted(title, ".voxroute-lock", beginning=".")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = _locked(path)
    except OSError as error:
        raise OutputError(f"nothing can be written to {folder}: {_advice(error)}") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # a folder that has vanished meanwhile
            path.unlink(missing_ok=True)  # still locked: nobody else can have it
        os.close(descriptor)


def _locked(path: Path) -> int:
    """The descriptor of the lock's file, which has this process's id in it. Raises TakenError."""
    while True:
        descriptor = _opened_lock(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.read(descriptor, _PID_DIGITS).decode(errors="replace").strip()
            os.close(descriptor)
            raise TakenError(
                f"another voxroute{f' (process {owner})' if owner else ''} writes the results of"
                f" this title to {path.parent}; wait for its end, or name another folder with -o"
            ) from error
        except OSError as error:
            if error.errno not in _WITHOUT_LOCKS:
                os.close(descriptor)
                raise
            _log.warning("this file system has no locks; a second run is not noticed", path=path)
            return descriptor
        if _is_at(descriptor, path):
            break
        os.close(descriptor)  # its owner has ended and removed it just now
    with contextlib.suppress(OSError):  # a full disk: the lock holds without the number
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
    return descriptor


def _opened_lock(path: Path) -> int:
    """The descriptor of the lock's file, which is made. Raises OutputError, OSError.

    In a folder that others write to too, the name may be a link to a file of somebody's, which
    must not become a lock; or the lock that another user's killed run has left, which is only read.
    """
    flags = os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        try:
            descriptor = os.open(path, os.O_RDWR | flags, 0o666)
        except PermissionError:
            descriptor = os.open(path, os.O_RDONLY | flags & ~os.O_CREAT)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise _no_lock(path) from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1 or status.st_size > _PID_DIGITS:
        os.close(descriptor)
        raise _no_lock(path)
    return descriptor


def _no_lock(path: Path) -> OutputError:
    return OutputError(f"{path} is no lock of voxroute; remove it, or name another folder with -o")


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file still has its name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def prepare(
    folder: Path, names: Iterable[str], *, overwrite: bool, mark: str | None = None
) -> None:
    """Makes the folder and sees that results can be written, before hours of work.

    Files that are there are replaced with `overwrite`, and where `mark` says that they came from
    an earlier run; a subtitle file that a person made is not lost. Raises OutputError.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".voxroute-"):
            pass
    except OSError as error:
        raise OutputError(f"nothing can be written to {folder}: {_advice(error)}") from error
    if overwrite or (mark is not None and (folder / mark).exists()):
        return
    there = [name for name in names if (folder / name).exists()]
    if there:
        raise OutputError(
            f"{', '.join(there)} already in {folder}; replace with --overwrite, or name another"
            " folder with -o"
        )


_READ_BYTES = 1 << 20


def sha256(path: Path) -> str:
    """The checksum of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_READ_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
