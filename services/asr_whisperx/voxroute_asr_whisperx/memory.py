"""Failures of the ML libraries as the service's errors; above all, running out of memory."""

import sys

from voxroute_serving.device.host import give_back_freed_memory
from voxroute_serving.errors import EngineError, OutOfMemoryError, ServingError

# What CTranslate2 4.8 and torch 2.8 write; neither has a class for it on every device.
_MESSAGES = (
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "bad_alloc",
    "can't allocate memory",
    "Cannot allocate memory",
    "failed to allocate",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of an ML library means that memory ran out."""
    if isinstance(error, MemoryError | OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _MESSAGES)


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


def free_memory(device: str) -> None:
    """Gives back what is kept for later: what torch has on a GPU, CTranslate2 cannot use."""
    if device == "cpu":
        give_back_freed_memory()
    torch = sys.modules.get("torch")
    if device == "cuda" and torch is not None:
        torch.cuda.empty_cache()
