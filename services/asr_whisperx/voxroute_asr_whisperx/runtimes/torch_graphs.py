# pyright: basic
"""Functions of tensors as CUDA graphs: one launch for all of their kernels.

A kernel takes a processor longer to launch than it takes a GPU, and each time Python's lock, for
which a service's other threads wait as well. A graph takes both once. What a function does must
depend on the shapes of tensors alone, and on its key.
"""

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class _Graph:
    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


class Graphs:
    """The graphs of one device, which share memory: they run one after the other.

    On other devices functions are called as they are.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._graphs: dict[Hashable, _Graph] = {}
        self._pool: tuple[int, int] | None = None
        self._lock = threading.RLock()

    def run(
        self, key: Hashable, function: Callable[..., tuple[Tensor, ...]], *inputs: Tensor
    ) -> tuple[Tensor, ...]:
        """What the function returns, which nobody changes afterwards.

        The first call with a key is made without a graph, and one is made for later ones, whose
        inputs have the same shapes. Without a key none is made.
        """
        if self._device.type != "cuda" or key is None:
            return function(*inputs)
        with self._lock:
            if key not in self._graphs:
                # what libraries make at their first use is no part of a graph
                outputs = function(*inputs)
                self._graphs[key] = self._captured(function, inputs)
                return outputs
            found = self._graphs[key]
            for kept, given in zip(found.inputs, inputs, strict=True):
                kept.copy_(given)
            found.graph.replay()
            return tuple(one.clone() for one in found.outputs)

    def _captured(
        self, function: Callable[..., tuple[Tensor, ...]], given: tuple[Tensor, ...]
    ) -> _Graph:
        inputs = tuple(one.clone() for one in given)
        graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream(self._device)
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            # other threads may take memory meanwhile; torch.cuda.graph would collect garbage first
            graph.capture_begin(self._pool, capture_error_mode="thread_local")
            try:
                outputs = function(*inputs)
            finally:
                graph.capture_end()
        self._pool = graph.pool()
        return _Graph(graph, inputs, outputs)
