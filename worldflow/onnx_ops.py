"""A model made ready for ONNX, and operators put into it by hand.

The operators are those where the exporter's own way costs. Each is of few nodes that ONNX Runtime
has on CPUs and GPUs, and without a shape that is worked out at run time: such nodes stay on the
CPU and keep a CUDA graph from being captured.
"""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from worldflow.coarse import CoarseStep
from worldflow.flow import DetailStep
from worldflow.model import WorldModel
from worldflow.trunk import Film, ResidualBlock

Value = Any  # of onnxscript, which has no types to speak of


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """For `torch.onnx.export(custom_translation_table=...)`."""
    aten = torch.ops.aten
    return {
        aten.softplus.default: _softplus,
        aten.im2col.default: _im2col,
        aten.pixel_unshuffle.default: _pixel_unshuffle,
        aten.group_norm.default: _group_norm,
        aten.scaled_dot_product_attention.default: _attention,
        aten.softmax.int: _softmax,
    }


def folded(model: WorldModel) -> WorldModel:
    """A copy of fewer operators that computes the same, but for rounding.

    Residual blocks scale and shift once, the norms' own affine being in the FiLM; all FiLMs are one
    layer; and the flow's units are in its weights.
    """
    model = copy.deepcopy(model)
    blocks = [block for block in model.modules() if isinstance(block, ResidualBlock)]
    with torch.no_grad():
        _fold_norms(blocks)
        films = _Films(model.trunk.condition, [block.film for block in blocks])
        model.trunk.condition = films  # type: ignore[assignment]
        for index, block in enumerate(blocks):
            block.film = _Nth(index)  # type: ignore[assignment]
        flow = model.flow
        _fold_reach(flow.coarse, flow.coarse.from_features.weight[:, -3:])
        for step in flow.details:
            assert isinstance(step, DetailStep)
            _fold_reach(step, step.conv1.weight[:, -12:-9])
    return model


class _Films(nn.Module):
    """Actions `(N, 32*L)` -> scale and shift of every block."""

    def __init__(self, condition: nn.Module, films: list[Film]) -> None:
        super().__init__()
        self.condition = condition
        self.sizes = [size for film in films for size in 2 * [film.out_features // 2]]
        self.all = nn.Linear(films[0].in_features, sum(self.sizes))
        self.all.weight.copy_(torch.cat([film.weight for film in films]))
        self.all.bias.copy_(torch.cat([film.bias for film in films]))
        for scale in self.all.bias.split(self.sizes)[0::2]:
            scale += 1

    def forward(self, actions: Tensor) -> list[tuple[Tensor, Tensor]]:
        told = self.all(self.condition(actions))[:, :, None, None].split(self.sizes, dim=1)
        return list(zip(told[0::2], told[1::2], strict=True))


class _Nth(nn.Module):
    """The place of a block's FiLM in what `_Films` gives."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index

    def forward(self, films: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        return films[self.index]


def _fold_reach(step: CoarseStep | DetailStep, of_mean: Tensor) -> None:
    """Makes a step of the flow compute in units of 1; `of_mean`: its weights for the mean."""
    of_mean /= step.reach
    step.rendering.look.weight /= step.reach
    for parameter in (*step.rendering.out.parameters(), *step.head.line.parameters()):
        parameter.mul_(step.reach)
    step.reach = step.rendering.reach = step.head.reach = 1.0
    if isinstance(step, DetailStep) and step.evidence:
        for parameter in step.evidence.expected.parameters():
            parameter[: 3 * step.evidence.components].mul_(step.evidence.reach)
        step.evidence.reach = 1.0


def _fold_norms(blocks: list[ResidualBlock]) -> None:
    for block in blocks:
        gain, offset = block.norm.weight.detach(), block.norm.bias.detach()
        block.norm = nn.GroupNorm(block.norm.num_groups, len(gain), block.norm.eps, affine=False)
        scale, shift = block.film.weight.chunk(2)
        scale_bias, shift_bias = block.film.bias.chunk(2)
        # (gain n + offset) (1 + scale) + shift = n (1 + scale') + shift'
        shift += offset[:, None] * scale
        shift_bias += offset * (1 + scale_bias)
        scale *= gain[:, None]
        scale_bias.copy_(gain * (1 + scale_bias) - 1)


def halved(model: WorldModel) -> WorldModel:
    """A copy whose convolutions, linear layers and norms compute in float16.

    Mixtures, pictures and state stay in float32: `full_precision` in the model sees to that.
    """
    model = copy.deepcopy(model)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear | nn.GroupNorm):
            layer.half().register_forward_pre_hook(lambda _, arguments: (arguments[0].half(),))
    model.trunk.position = nn.Parameter(model.trunk.position.half(), requires_grad=False)
    return model


def _softplus(x: Value, beta: float = 1.0, threshold: float = 20.0) -> Value:
    """Above the threshold PyTorch gives x itself, which is the same in float32."""
    op = _opset()

    assert beta == 1
    return op.Softplus(x)


def _im2col(
    x: Value,
    kernel_size: Sequence[int],
    dilation: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    stride: Sequence[int] = (1, 1),
) -> Value:
    """A convolution that picks each neighbour: (N, C, h, w) -> (N, C*k*k, h*w)."""
    op = _opset()

    height, width = kernel_size
    count = x.shape[1] * height * width
    picks = np.eye(count, dtype=np.float32).reshape(count, x.shape[1], height, width)
    pads = [padding[0], padding[1], padding[0], padding[1]]
    drawn = op.Conv(x, op.Constant(value=_tensor(picks)), pads=pads, strides=list(stride))
    return op.Reshape(drawn, op.Constant(value_ints=[0, count, -1]))


def _pixel_unshuffle(x: Value, factor: int) -> Value:
    """ONNX has the block's pixels first, PyTorch the channels; a transpose would be slow."""
    op = _opset()
    channels, block = x.shape[1], factor * factor
    order = np.arange(block * channels).reshape(block, channels).T.ravel()
    folded_pixels = op.SpaceToDepth(x, blocksize=factor)
    return op.Gather(folded_pixels, op.Constant(value_ints=order.tolist()), axis=1)


def _group_norm(
    x: Value,
    groups: int,
    weight: Value = None,
    bias: Value = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Value:
    """Each group as one instance."""
    op = _opset()

    kind = x.dtype.numpy()
    ones, zeros = (op.Constant(value=_tensor(np.full(groups, v, kind))) for v in (1.0, 0.0))
    grouped = op.Reshape(x, op.Constant(value_ints=[0, groups, -1]))
    normed = op.InstanceNormalization(grouped, ones, zeros, epsilon=eps)
    normed = op.Reshape(normed, op.Constant(value_ints=[-1, *x.shape[1:]]))
    if weight is not None:
        axes = op.Constant(value_ints=[1, 2])
        normed = op.Mul(normed, op.Unsqueeze(weight, axes))
        normed = op.Add(normed, op.Unsqueeze(bias, axes))
    return normed


def _attention(
    query: Value,
    key: Value,
    value: Value,
    attn_mask: Value = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Value:
    """(N, heads, cells, d) thrice -> the same."""
    op = _opset()

    assert attn_mask is None
    assert not is_causal
    factor = scale or 1 / math.sqrt(query.shape[-1])
    keys = op.Transpose(key, perm=[0, 1, 3, 2])
    scores = op.Mul(op.MatMul(query, keys), _like(factor, query))
    return op.MatMul(op.Softmax(scores, axis=-1), value)


def _softmax(x: Value, dim: int, dtype: int | None = None) -> Value:
    """Of channels, in steps: ONNX Runtime's own turns the picture round for it, and back."""
    op = _opset()

    assert dtype is None
    if dim in (-1, len(x.shape) - 1):
        return op.Softmax(x, axis=-1)
    axes = op.Constant(value_ints=[dim])
    weights = op.Exp(op.Sub(x, op.ReduceMax(x, axes, keepdims=1)))
    return op.Div(weights, op.ReduceSum(weights, axes, keepdims=1))


def _opset() -> Any:
    import onnxscript

    return onnxscript.opset20


def _like(number: float, x: Value) -> Value:
    """A constant of the type of `x`."""
    op = _opset()

    return op.CastLike(op.Constant(value_float=number), x)


def _tensor(values: "np.ndarray[Any, Any]") -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(values)
