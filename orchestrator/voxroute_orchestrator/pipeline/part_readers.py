"""The parts of a long recording, decoded beside each other by processes of their own.

One process decodes a film's AAC at 600 times real time, which a GPU would wait for; six do so at
2,200 times. Threads would not help: half of that is Python's. What a part holds but for plain sound
(damage, a hole, a join, another channel than the mix) is known in full only to who has read the
recording from its start, so the parts are used up to there, and no further.
"""

import contextlib
import pickle
import struct
import subprocess
import sys
import threading
from typing import IO, cast

from voxroute_orchestrator.errors import MediaError
from voxroute_orchestrator.media import CHUNK_BYTES, SEEKABLE, PcmReader
from voxroute_orchestrator.transcript import Media
from voxroute_serving.audio.media import SAMPLE_BYTES, SAMPLE_RATE, Watch
from voxroute_serving.device.host import usable_processors

PART_BYTES = 150 * CHUNK_BYTES  # 614 s; each process has one in memory
LEAST_S = 1800.0  # s; what is shorter is decoded by the time that a process has started
_N_READERS = 6
_PROCESSORS_A_READER = 2
_BYTES_PER_S = SAMPLE_RATE * SAMPLE_BYTES

_LENGTH = struct.Struct("<i")
_DECODING = 0  # in place of a length: the part is on its way
_GIVEN_UP = -1


class PartReaders:
    """What follows the first PART_BYTES of a recording that begins at `first_s`, up to `end_s`.

    Blocking; `close` may come from another thread, and ends a read.
    """

    def __init__(self, media: Media, first_s: float, end_s: float | None, watch: Watch) -> None:
        part_s = PART_BYTES / _BYTES_PER_S
        last_s = _last_s(media, end_s)
        begins = [first_s + n * part_s for n in range(1, int((last_s - first_s) / part_s) + 1)]
        parts = list(zip(begins, [*begins[1:], end_s], strict=True))
        n_readers = max(1, min(_N_READERS, len(parts), usable_processors() // _PROCESSORS_A_READER))
        self._watch = watch
        self._n_parts = len(parts)
        self._next = 0
        self._closed = False
        self._lock = threading.Lock()
        self._readers = [_start(media, parts[n::n_readers]) for n in range(n_readers)]

    def read(self) -> bytes | None:
        """The next part; b"" behind the last one. None where the recording must be read on as one.

        None too once it was closed.
        """
        if self._next == self._n_parts:
            return b""
        reader = self._readers[self._next % len(self._readers)]
        out = cast("IO[bytes]", reader.stdout)
        self._next += 1
        while len(head := out.read(_LENGTH.size)) == _LENGTH.size:
            self._watch.moved()
            n_bytes = _LENGTH.unpack(head)[0]
            if n_bytes == _GIVEN_UP:
                break
            if n_bytes > 0:
                pcm = out.read(n_bytes)
                return pcm if len(pcm) == n_bytes else None
        return None

    def close(self) -> None:
        """Ends the processes."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        for reader in self._readers:
            reader.kill()
            reader.wait()
            cast("IO[bytes]", reader.stdout).close()


def has_parts(media: Media, start_s: float, end_s: float | None) -> bool:
    """Whether a recording is long enough, and can be opened anywhere."""
    long_enough = _last_s(media, end_s) - start_s >= LEAST_S
    return long_enough and not SEEKABLE.isdisjoint(media.format.split(","))


def _last_s(media: Media, end_s: float | None) -> float:
    return min(media.duration_s or 0.0, end_s or float("inf"))


def _start(media: Media, parts: list[tuple[float, float | None]]) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(  # noqa: S603 - this Python and this module
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with contextlib.suppress(BrokenPipeError), cast("IO[bytes]", process.stdin) as to:
        pickle.dump((media, parts), to)
    return process


def _decode(media: Media, start_s: float, end_s: float | None, out: IO[bytes]) -> bytes | None:
    """The sound of a part; None where it is more than plain sound."""
    pcm = bytearray()
    reader = PcmReader(media, start_s=start_s, end_s=end_s)
    try:
        while chunk := reader.read():
            pcm += chunk
            out.write(_LENGTH.pack(_DECODING))
            out.flush()
            if len(pcm) > 2 * PART_BYTES:
                return None
    except MediaError:
        return None
    whole = end_s is None or len(pcm) == round((end_s - start_s) * SAMPLE_RATE) * SAMPLE_BYTES
    begun = abs(reader.first_s - start_s) * SAMPLE_RATE <= 1
    return bytes(pcm) if whole and begun and not reader.notes else None


def _work() -> None:
    media, parts = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the process that started this
    out = sys.stdout.buffer
    for start_s, end_s in parts:
        pcm = _decode(media, start_s, end_s, out)
        out.write(_LENGTH.pack(_GIVEN_UP if not pcm else len(pcm)))
        if not pcm:
            return
        out.write(pcm)
        out.flush()


if __name__ == "__main__":
    _work()
