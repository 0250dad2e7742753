"""Failures of the libraries that run models as the service's errors; above all, too little memory.

No library has a class for running out of memory on every device, so their texts tell.
"""

import contextlib
from collections.abc import Callable, Generator

from voxroute_serving.errors import (
    EngineError,
    ModelUnavailableError,
    OutOfMemoryError,
    ServingError,
)

# What CTranslate2 4.8, torch 2.8 and MLX 0.32 write, of which MLX's are from its allocators
# (metal::malloc, malloc_or_wait, cudaMalloc*) and from Metal's own text for a command buffer that
# did not fit; in small letters.
_MESSAGES = (
    "out of memory",
    "outofmemory",
    "insufficient memory",
    "resource limit",
    "bad_alloc",
    "cublas_status_alloc_failed",
    "cudaerrormemoryallocation",
    "can't allocate memory",
    "cannot allocate memory",
    "failed to allocate",
    "unable to allocate",
    "attempting to allocate",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of a library means that the device or the host has too little memory."""
    if isinstance(error, MemoryError | OutOfMemoryError):
        return True
    # an OSError is what a file that is to be mapped ends in
    told = isinstance(error, RuntimeError | OSError)
    return told and any(text in str(error).lower() for text in _MESSAGES)


def engine_error(error: Exception, what: str) -> ServingError:
    """The error to raise for one of a library; `what` tells what failed, as in "the aligner"."""
    if isinstance(error, ServingError):
        return error
    if is_out_of_memory(error):
        return OutOfMemoryError(
            f"the device's memory is too small for {what}; use a smaller model or a smaller"
            " compute type (int8), or another device"
        )
    return EngineError(f"{what} failed; the service's log has the reason")


@contextlib.contextmanager
def engine_errors(what: str, free_memory: Callable[[], None] = lambda: None) -> Generator[None]:
    """Raises the libraries' failures in the block as `engine_error` has them.

    Where it is memory that is missing, `free_memory` gives back first what is kept for later.
    Raises OutOfMemoryError, EngineError.
    """
    try:
        yield
    except Exception as error:
        mapped = engine_error(error, what)
        if isinstance(mapped, OutOfMemoryError):
            free_memory()
        if mapped is error:
            raise
        raise mapped from error


@contextlib.contextmanager
def load_errors(what: str, reason: str = "") -> Generator[None]:
    """Raises the libraries' failures in the block, in which `what` is loaded.

    `reason` is what else may be wrong, and what to do, where it is not the files of a model.
    Raises OutOfMemoryError, ModelUnavailableError.
    """
    try:
        yield
    except ServingError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise engine_error(error, what) from error
        reason = reason or (
            "its files may be damaged, or made for another version of the libraries: get or convert"
            " it again"
        )
        raise ModelUnavailableError(f"{what} cannot be loaded; {reason}") from error
