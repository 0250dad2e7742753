"""Files that are read again when they change: certificates, keys, tokens."""

from collections.abc import Sequence
from pathlib import Path

_Stamp = tuple[int, int, int, int]


class Watched:
    """Tells whether any of some files has changed since the last look.

    Looks at time, size and identity, so a file that is written anew, replaced by a rename or
    swapped behind a symbolic link (as Kubernetes does with secrets) counts as changed.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(paths)
        self._stamps: tuple[_Stamp | None, ...] = ()

    def changed(self) -> bool:
        """Whether they differ from the last call; true for the first one."""
        stamps = tuple(_stamp(path) for path in self._paths)
        if stamps == self._stamps:
            return False
        self._stamps = stamps
        return True


def _stamp(path: Path) -> _Stamp | None:
    """What changes with the file's content; None where it cannot be looked at."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev
