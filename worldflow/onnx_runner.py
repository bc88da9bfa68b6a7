"""How arrays get into an ONNX Runtime session and out of it: on the CPU, and on a GPU.

A runner takes a dict of arrays by input name, rows first, and gives one by output name. What it
takes it leaves alone, and what it gives is the caller's to keep.
"""

import itertools
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from worldflow.onnx_session import import_onnxruntime

Arrays = dict[str, Any]
Runner = Callable[[Mapping[str, Any]], Arrays]

DTYPES: dict[str, DTypeLike] = {
    "tensor(uint8)": np.uint8,
    "tensor(int64)": np.int64,
    "tensor(float)": np.float32,
    "tensor(bool)": np.bool_,
}
GRAPHS = 4  # batch sizes whose buffers, and captured graph, are kept


def make_runner(session: Any, device: str) -> Runner:
    """The runner for a session on `device`."""
    return HostRunner(session) if device == "cpu" else DeviceRunner(session, "cuda")


class HostRunner:
    """NumPy arrays in and out; ONNX Runtime reads them in place."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._inputs = [(node.name, DTYPES[node.type]) for node in session.get_inputs()]
        self._outputs = [node.name for node in session.get_outputs()]

    def __call__(self, feeds: Mapping[str, Any]) -> Arrays:
        arrays = {name: np.asarray(feeds[name], dtype) for name, dtype in self._inputs}
        return dict(zip(self._outputs, self._session.run(self._outputs, arrays), strict=True))


class DeviceArray:
    """An array that lives on a GPU, as a state's arrays do between steps.

    Rows are taken as NumPy arrays, so that a state is indexed, copied and put together there;
    the next step brings it back.
    """

    def __init__(self, value: Any) -> None:
        self.value = value  # an onnxruntime.OrtValue that nobody writes to

    @property
    def shape(self) -> tuple[int, ...]:
        """As of a NumPy array."""
        return tuple(self.value.shape())

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.value.numpy(), dtype=dtype)

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        taken: NDArray[Any] = np.asarray(self)[rows]
        return taken

    def copy(self) -> NDArray[Any]:
        """On the host."""
        return np.asarray(self)


@dataclass(frozen=True)
class _Buffers:
    """Arrays at fixed addresses for one batch size, as a captured graph needs them."""

    inputs: Arrays
    outputs: Arrays
    binding: Any
    options: Any
    graph_id: int


class DeviceRunner:
    """State in and out as `DeviceArray`, all else as NumPy arrays.

    The session runs on buffers of its own, one set for each batch size, captured once as a
    CUDA graph. The state is copied in and out on the device: a graph overwrites its outputs,
    but a caller may keep any state.
    """

    def __init__(self, session: Any, device: str) -> None:
        self._session, self._device = session, device
        self._buffers: OrderedDict[int, _Buffers] = OrderedDict()  # by batch size, newest last
        self._graph_ids = itertools.count(1)
        self._ort = import_onnxruntime()

    def __call__(self, feeds: Mapping[str, Any]) -> Arrays:
        buffers = self._of(len(feeds["action"]))
        for name, target in buffers.inputs.items():
            target.update_inplace(self._source(feeds[name], target))
        self._session.run_with_iobinding(buffers.binding, buffers.options)
        return {
            name: self._kept(value) if name.startswith("next_") else np.array(value.numpy())
            for name, value in buffers.outputs.items()
        }

    def _source(self, value: Any, target: Any) -> Any:
        """What `update_inplace` takes: a NumPy array, or a value on the device."""
        if isinstance(value, DeviceArray):
            return value.value
        if isinstance(value, np.ndarray):
            return np.ascontiguousarray(value, DTYPES[target.data_type()])
        return self._ort.OrtValue.from_dlpack(value)  # a torch tensor, say

    def _kept(self, value: Any) -> DeviceArray:
        """A copy on the device."""
        copy = self._allocate(value.shape(), value.data_type())
        copy.update_inplace(value)
        return DeviceArray(copy)

    def _allocate(self, shape: list[int], kind: str) -> Any:
        return self._ort.OrtValue.ortvalue_from_shape_and_type(shape, DTYPES[kind], self._device)

    def _of(self, batch: int) -> _Buffers:
        """The buffers of a batch size, made if need be."""
        if batch not in self._buffers:
            self._buffers[batch] = self._make(batch)
            if len(self._buffers) > GRAPHS:
                _, oldest = self._buffers.popitem(last=False)
                self._session.release_captured_graph(oldest.graph_id)
        self._buffers.move_to_end(batch)
        return self._buffers[batch]

    def _make(self, batch: int) -> _Buffers:
        def allocate(node: Any) -> Any:
            return self._allocate([batch, *node.shape[1:]], node.type)

        inputs = {node.name: allocate(node) for node in self._session.get_inputs()}
        outputs = {node.name: allocate(node) for node in self._session.get_outputs()}
        binding = self._session.io_binding()
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        for name, value in outputs.items():
            binding.bind_ortvalue_output(name, value)
        options, graph_id = self._ort.RunOptions(), next(self._graph_ids)
        options.add_run_config_entry("gpu_graph_id", str(graph_id))
        return _Buffers(inputs, outputs, binding, options, graph_id)
