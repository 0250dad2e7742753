"""Running out of the device's memory, told from other failures."""

# What MLX 0.32 writes; it has no class for it. From its allocators (metal::malloc, malloc_or_wait,
# cudaMalloc*) and from Metal's own text for a command buffer that did not fit.
_MESSAGES = (
    "Unable to allocate",
    "Attempting to allocate",
    "Resource limit",
    "Insufficient Memory",
    "OutOfMemory",
    "out of memory",
    "bad_alloc",
    "cudaErrorMemoryAllocation",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of MLX means that memory ran out."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _MESSAGES)
