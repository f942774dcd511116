"""A convolution and its BatchNorm as one operation, for training with fixed statistics."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_conv2d = nn.functional.conv2d


class ConvFixedNorm(nn.Sequential):
    """A convolution without bias and a BatchNorm: `0` and `1` of a state dict.

    With gradients and fixed statistics it computes one convolution whose weights hold the norm: the same numbers but
    for rounding, without a pass over the largest maps. Export and inference run the two layers as they are.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, outputs, H / stride, W / stride)."""
        conv, norm = self[0], self[1]
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        if norm.training or not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return norm(conv(x))  # type: ignore[no-any-return]
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        weight, bias = conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale
        stride, padding = conv.stride[0], int(conv.padding[0])
        if conv.groups == conv.out_channels and x.device.type == "cpu":
            return _DepthwiseOnCpu.apply(x, weight, bias, stride, padding)  # type: ignore[no-any-return]
        return _conv2d(x, weight, bias, stride, padding, 1, conv.groups)


class _DepthwiseOnCpu(torch.autograd.Function):
    """A depthwise convolution whose gradients are computed as a CPU computes them fastest.

    The gradient of the input is a convolution of the output's, spread where the stride is 2; in BF16 that of a 5x5 kernel
    is put together from four of 3x3. oneDNN's own ways are slow, in BF16 above all: 60 % of a step of EfficientNet-Lite0.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return _conv2d(x, weight.to(x.dtype), bias.to(x.dtype), stride, padding, 1, len(weight))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad = grads[0].contiguous(memory_format=torch.channels_last)
        stride, padding, channels, kernel = ctx.stride, ctx.padding, len(weight), weight.shape[2]
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            spread = grad if stride == 1 else _spread(grad, stride)
            turned = weight.flip(2, 3).to(grad.dtype)
            of_x = _conv2d(spread, turned, None, 1, kernel - 1 - padding, 1, channels)[..., : x.shape[2], : x.shape[3]]
        if ctx.needs_input_grad[1]:
            of_weight = _of_kernel(grad, x.to(grad.dtype), weight.to(grad.dtype), stride, padding).to(weight.dtype)
        of_bias = grad.sum((0, 2, 3), dtype=torch.float32) if ctx.needs_input_grad[2] else None
        return of_x, of_weight, of_bias, None, None


def _of_kernel(grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Gradient of a depthwise kernel (C, 1, k, k) by those of the output and the input."""
    if grad.dtype != torch.bfloat16 or weight.shape[2] != 5:
        return torch.ops.aten.convolution_backward(  # type: ignore[no-any-return]
            grad, x, weight, None, [stride, stride], [padding, padding], [1, 1], False,  # noqa: FBT003 - of the operator
            [0, 0], len(weight), [False, True, False],
        )[1]  # fmt: skip
    padded = nn.functional.pad(x, (padding,) * 4)
    height, width = ((side - 1) * stride + 3 for side in grad.shape[2:])
    whole = torch.empty_like(weight)
    corner = weight[:, :, :3, :3].contiguous()
    for top in (0, 2):
        for left in (0, 2):
            part = padded[:, :, top : top + height, left : left + width].contiguous(memory_format=torch.channels_last)
            whole[:, :, top : top + 3, left : left + 3] = _of_kernel(grad, part, corner, stride, 0)
    return whole


def _spread(x: Tensor, stride: int) -> Tensor:
    """(B, C, h, w) -> (B, C, stride * h, stride * w) with zeros between."""
    batch, channels, height, width = x.shape
    size = (batch, channels, stride * height, stride * width)
    spread = torch.empty(size, dtype=x.dtype, memory_format=torch.channels_last).zero_()
    spread[:, :, ::stride, ::stride] = x
    return spread
