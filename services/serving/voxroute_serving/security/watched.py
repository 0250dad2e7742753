"""Files that are read again when they change: certificates, keys, tokens."""

import time
from collections.abc import Sequence
from enum import Enum
from pathlib import Path

SETTLE_S = 1.0
"""How long files must have been left alone before what is in them counts. Too low: one that is
saved in place, slowly, is read half written. Too high: a change counts late."""

_Stamp = tuple[int, int, int, int, int]


class Look(Enum):
    """What a look at files tells."""

    SAME = "as they were taken"
    MOVING = "other than they were taken, and perhaps still being written"
    SETTLED = "other than they were taken, and left alone since"


class Watched:
    """Tells whether any of some files is another than when they were taken.

    Looks at times, size and identity, so a file that is written anew, replaced by a rename or
    swapped behind a symbolic link (as Kubernetes does with secrets) counts as changed, also where
    its size and its time of modification were kept (`rsync --inplace --times`).

    A file that is saved in place is empty for a moment, then half there. So a change settles first:
    it has, once two looks SETTLE_S apart have found the same, or once the file system's own time of
    the last change is that long ago.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        """Takes the files as they are now; what is read after this is at least as new."""
        self._paths = tuple(paths)
        self._taken = self._stamps()
        self._seen = self._taken
        self._seen_at = time.monotonic()

    def look(self) -> Look:
        """What the files are now, compared with how they were taken."""
        stamps = self._stamps()
        if stamps == self._taken:
            return Look.SAME
        if stamps != self._seen:
            self._seen, self._seen_at = stamps, time.monotonic()
        seen_s = time.monotonic() - self._seen_at
        return Look.SETTLED if max(seen_s, _age_s(stamps)) >= SETTLE_S else Look.MOVING

    def take(self) -> bool:
        """Takes what has been read since the last look; False where it has changed meanwhile."""
        if self._stamps() != self._seen:
            return False
        self._taken = self._seen
        return True

    def _stamps(self) -> tuple[_Stamp | None, ...]:
        return tuple(_stamp(path) for path in self._paths)


def _stamp(path: Path) -> _Stamp | None:
    """What changes with the file's content; None where it cannot be looked at."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (
        status.st_mtime_ns,
        status.st_ctime_ns,  # nobody can set it back
        status.st_size,
        status.st_ino,
        status.st_dev,
    )


def _age_s(stamps: Sequence[_Stamp | None]) -> float:
    """Seconds since the last change; 0 where that is not known, as of a file that is gone."""
    changes = [0 if stamp is None else stamp[1] for stamp in stamps]
    return (time.time_ns() - max(changes)) / 1e9 if all(changes) else 0.0
