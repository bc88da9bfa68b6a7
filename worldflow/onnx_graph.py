"""A world's step and score as ONNX graphs, and both as the bytes of one file.

The graph of the file is one streamed step: state, action, noise and temperature in; frame,
reward, termination and the next state out (`STEP_INPUTS`, `STEP_OUTPUTS` of onnx_file.py). It
holds no randomness and no control flow, and the batch is free.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from worldflow.cost import gflop_per_frame
from worldflow.errors import InputError
from worldflow.model import StreamState, WorldModel
from worldflow.onnx_file import (
    SCORE_INPUTS,
    SCORE_OUTPUTS,
    STEP_INPUTS,
    STEP_OUTPUTS,
    OnnxAbout,
    pack_metadata,
)
from worldflow.onnx_ops import folded, halved, translations
from worldflow.world import World

OPSET = 20


def to_onnx(world: World, dtype: str = "float32") -> bytes:
    """The bytes of the `.onnx`.

    Raises:
        InputError: onnx or onnxscript is not installed.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401 (torch's exporter needs it)
    except ImportError as error:
        raise InputError(
            f"exporting needs the package {error.name}: pip install 'worldflow[export]'"
        ) from error
    model = folded(world.model).cpu()
    frame = torch.zeros((2, model.size, model.size, 3), dtype=torch.uint8)  # 1 would freeze it
    state = model.first_state(frame)
    action, noise = torch.zeros(2, dtype=torch.int64), torch.zeros(2, model.noise_size)
    drawing = _Step(halved(model) if dtype == "float16" else model)
    step = traced(drawing, (*state, action, noise, torch.ones(2)), STEP_INPUTS, STEP_OUTPUTS)
    score = traced(_Score(model), (*state, action, frame, noise), SCORE_INPUTS, SCORE_OUTPUTS)
    graph, told = step.SerializeToString(), onnx.ModelProto()
    metadata = pack_metadata(
        _about(world, dtype),
        world.start_frames,
        world.start_actions,
        graph,
        score.SerializeToString(),
    )
    for key, value in metadata.items():
        told.metadata_props.add(key=key, value=value)
    # Serialised messages that follow each other are one: so the graph's bytes stay as they are,
    # for its checksum.
    return bytes(graph + told.SerializeToString())


def _about(world: World, dtype: str) -> OnnxAbout:
    model = world.model
    return OnnxAbout(
        card=world.card,
        world_hash=world.hash,
        dtype=dtype,
        frame_shape=(model.size, model.size, 3),
        noise_size=model.noise_size,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        gflop_per_frame=gflop_per_frame(model),
    )


class _Step(nn.Module):
    """`WorldModel.step` with its state as plain arguments."""

    def __init__(self, model: WorldModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        frames: Tensor,
        actions: Tensor,
        keys: Tensor,
        values: Tensor,
        steps: Tensor,
        recency: Tensor,
        action: Tensor,
        noise: Tensor,
        temperature: Tensor,
    ) -> tuple[Tensor, ...]:
        state = StreamState(frames, actions, keys, values, steps, recency)
        *told, after = self.model.step(state, action, noise, temperature)
        return (*told, *after)


class _Score(nn.Module):
    """`WorldModel.score`, likewise."""

    def __init__(self, model: WorldModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        frames: Tensor,
        actions: Tensor,
        keys: Tensor,
        values: Tensor,
        steps: Tensor,
        recency: Tensor,
        action: Tensor,
        shown: Tensor,
        noise: Tensor,
    ) -> Tensor:
        return self.model.score(
            StreamState(frames, actions, keys, values, steps, recency), action, shown, noise
        )


def traced(
    module: nn.Module,
    arguments: tuple[Tensor, ...],
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
) -> Any:
    """The `onnx.ModelProto` of a module in eval mode, the first dimension of all arguments free."""
    batch = torch.export.Dim("batch", min=1, max=1 << 20)
    with _quiet():
        program = torch.onnx.export(
            module.eval(),
            arguments,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=({0: batch},) * len(arguments),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
            custom_translation_table=translations(),
        )
    assert program is not None
    return program.model_proto


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter prints its progress, and warns of packages and of its own code."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
