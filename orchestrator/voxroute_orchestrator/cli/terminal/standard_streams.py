"""Standard output and standard error that take no work down with them.

Either may be closed (`2>&-`), on a full disk, or a pipe that nobody reads any more. The results of
hours are in files; what is told beside them must not end the command before these are written.
"""

import codecs
import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

from voxroute_orchestrator.errors import OutputError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


_ANY_TEXT = "voxroute.any-text"


class StandardOutputError(OutputError):
    """What the command has to say cannot be written to standard output."""


class NoReaderError(Exception):
    """The reader of standard output has gone; it has what it wanted."""


def set_up() -> None:
    """Makes the standard streams of this process fit for use, whatever it was started with.

    From then on writing to standard output raises StandardOutputError or NoReaderError, both of
    them no OSError, which libraries take for their own; writing to standard error never fails.
    """
    for descriptor in (0, 1, 2):
        _open(descriptor)
    codecs.register_error(_ANY_TEXT, _any_text)
    sys.stdout = _text(_Output(1, "wb", closefd=False), sys.stdout, errors=_ANY_TEXT)
    sys.stderr = _text(_Errors(2, "wb", closefd=False), sys.stderr, line_buffering=True)


def silence_output() -> None:
    """Throws away what standard output holds back, which the end of the process would write."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _open(descriptor: int) -> None:
    """Opens a closed standard stream on nothing; a file of ours would get its number otherwise."""
    try:
        os.fstat(descriptor)
    except OSError:
        nothing = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
        if nothing != descriptor:
            os.dup2(nothing, descriptor)
            os.close(nothing)


def _any_text(error: UnicodeError) -> tuple[str | bytes, int]:
    """What stands for text that the encoding lacks: of a file's name its bytes, else an escape."""
    assert isinstance(error, UnicodeEncodeError)  # noqa: S101 - nothing is read by it
    text = error.object[error.start : error.end]
    try:
        return text.encode("ascii", "surrogateescape"), error.end
    except UnicodeEncodeError:
        return text.encode("ascii", "backslashreplace"), error.end


def _text(
    raw: io.FileIO,
    before: TextIO | None,
    *,
    errors: str = "backslashreplace",
    line_buffering: bool = False,
) -> TextIO:
    """The stream as text, in the way of the one that Python has made, if it has made one."""
    if not isinstance(before, io.TextIOWrapper):
        return io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", errors)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=before.encoding,
        errors=errors,
        line_buffering=before.line_buffering or line_buffering,
        write_through=before.write_through,
    )


class _Output(io.FileIO):
    def write(self, data: "ReadableBuffer", /) -> int:
        """Writes the bytes; how many."""
        try:
            return super().write(data)
        except BrokenPipeError as error:
            raise NoReaderError from error
        except OSError as error:
            raise StandardOutputError(
                f"standard output cannot be written ({error.strerror}); results that go to files"
                " are there"
            ) from error


class _Errors(io.FileIO):
    def write(self, data: "ReadableBuffer", /) -> int:
        """Writes the bytes, or drops them: there is nobody else to tell."""
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes
