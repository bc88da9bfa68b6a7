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
from torch import nn

from worldflow.model import WorldModel
from worldflow.trunk import ResidualBlock

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
    }


def folded(model: WorldModel) -> WorldModel:
    """A copy whose residual blocks scale and shift once: the norms' own affine is in the FiLM."""
    model = copy.deepcopy(model)
    for block in model.modules():
        if not isinstance(block, ResidualBlock):
            continue
        gain, offset = block.norm.weight.detach(), block.norm.bias.detach()
        block.norm = nn.GroupNorm(block.norm.num_groups, len(gain), block.norm.eps, affine=False)
        with torch.no_grad():
            scale, shift = block.film.weight.chunk(2)
            scale_bias, shift_bias = block.film.bias.chunk(2)
            # (gain n + offset) (1 + scale) + shift = n (1 + scale') + shift'
            shift += offset[:, None] * scale
            shift_bias += offset * (1 + scale_bias)
            scale *= gain[:, None]
            scale_bias.copy_(gain * (1 + scale_bias) - 1)
    return model


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
