"""Results on the disk: each file is there as a whole, or not at all."""

import contextlib
import errno
import os
import tempfile
from collections.abc import Generator, Iterable
from pathlib import Path

from voxroute_orchestrator.errors import OutputError


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
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".voxroute-", suffix=".tmp")
        os.close(descriptor)
        temporary = Path(name)
        yield temporary
        _flush(temporary)
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
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
