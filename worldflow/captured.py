"""Functions of tensors as CUDA graphs: recorded once for each set of shapes, then replayed.

An update of a small model is thousands of kernels of a few microseconds each, and on a GPU all of
its time goes into launching them (docs/experiments.md, 64). A graph launches them all at once.
"""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

Result = TypeVar("Result")
WARM_UP = 3  # plain calls before a function is recorded: libraries choose their kernels then


class Captured(Generic[Result]):
    """`function`, replayed on a GPU; on a CPU just called.

    Its arguments are tensors on the device, or tuples of them, and all that it reads beside them
    stays where it is (weights and gradients do). It may not wait for the device. What it returns
    is overwritten by the next call with the same shapes.
    """

    def __init__(
        self, function: Callable[..., Result], device: str, warm_up: int = WARM_UP
    ) -> None:
        self._function, self._cuda = function, device.startswith("cuda")
        self._warm_up = warm_up
        self._recordings: dict[Any, _Recording[Result]] = {}

    def __call__(self, *arguments: Any) -> Result:
        if not self._cuda:
            return self._function(*arguments)
        leaves, shape = pytree.tree_flatten(arguments)
        key = shape, tuple((leaf.shape, leaf.stride(), leaf.dtype) for leaf in leaves)
        if key not in self._recordings:
            self._recordings[key] = _Recording(self._function, leaves, shape, self._warm_up)
        return self._recordings[key].replay(leaves)


class _Recording(Generic[Result]):
    """One graph, and the tensors at fixed addresses that it reads and writes."""

    def __init__(
        self, function: Callable[..., Result], leaves: list[Tensor], shape: Any, warm_up: int
    ) -> None:
        self._inputs = [leaf.detach().clone() for leaf in leaves]
        arguments = pytree.tree_unflatten(self._inputs, shape)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(warm_up):
                function(*arguments)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        # Clips are read by other threads meanwhile, which may allocate.
        with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
            self._result = function(*arguments)

    def replay(self, leaves: list[Tensor]) -> Result:
        for own, given in zip(self._inputs, leaves, strict=True):
            own.copy_(given)
        self._graph.replay()
        return self._result
