"""LPIPS, the learned perceptual distance between pictures (Zhang et al., arXiv 1801.03924).

Two pictures go through a frozen ImageNet network; at five depths their features are normalised per
pixel, subtracted, squared, weighted per channel (the learned "heads"), and averaged over the
picture. Version 0.1 of the published heads; the values agree with the `lpips` 0.1.4 package.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from text2layer.errors import InputError
from text2layer.pretrained import load_pickled_arrays, resolve

# Statistics of ImageNet pictures in [-1, 1]: (mean, deviation) of [0, 1] colours, times two
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
NORMALISATION_EPSILON = 1e-10
SMALLEST = {"vgg": 16, "alex": 31}  # pixels; less leaves nothing at the fifth depth


class LPIPS(nn.Module):
    """Perceptual distance, frozen.

    Args:
        network: "vgg" (VGG16; smooth gradients, used as a loss) or "alex" (AlexNet; faster, the
            usual choice for reported scores).
        pretrained: Load the published weights (`lpips-vgg`, `lpips-alex`); else they are random.

    Raises:
        InputError: there is no such network.
        WeightsError: the weights are not on this machine and cannot be fetched.

    Example:
        >>> import torch
        >>> distance = LPIPS("alex")
        >>> black, white = torch.full((1, 3, 64, 64), -1.0), torch.full((1, 3, 64, 64), 1.0)
        >>> round(distance(black, white).item(), 3)
        0.814
    """

    shift: torch.Tensor
    scale: torch.Tensor

    def __init__(self, network: Literal["vgg", "alex"] = "vgg", *, pretrained: bool = True) -> None:
        super().__init__()
        if network not in SMALLEST:
            raise InputError(f"LPIPS knows the networks 'vgg' and 'alex', not {network!r}.")
        self.network = network
        self.stages = _vgg16() if network == "vgg" else _alexnet()
        channels = [_convolutions(stage)[-1].out_channels for stage in self.stages]
        self.heads = nn.ParameterList(torch.full((c,), 1.0 / c) for c in channels)
        self.register_buffer("shift", torch.tensor(SHIFT).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE).view(1, 3, 1, 1), persistent=False)
        if pretrained:
            self._load_published()
        self.eval().requires_grad_(False)

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Distance of each pair of pictures.

        Args:
            a: (N, 3, H, W) in [-1, 1].
            b: The same shape. A picture that needs no gradient costs no activation memory.

        Returns:
            (N,) float32, 0 for identical pictures and rarely above 1.

        Raises:
            InputError: the shapes differ, are not (N, 3, H, W), or are too small.
        """
        return torch.stack(self.per_depth(a, b)).sum(dim=0)

    def per_depth(self, a: torch.Tensor, b: torch.Tensor) -> list[torch.Tensor]:
        """The five summands of `forward`, shallowest first, each (N,) float32."""
        self._check(a, b)
        distances = []
        x, y = (a - self.shift) / self.scale, (b - self.shift) / self.scale
        for stage, head in zip(self.stages, self.heads, strict=True):
            x, y = stage(x), stage(y)  # (N, C, h, w)
            with torch.autocast(x.device.type, enabled=False):
                difference = (_normalised(x.float()) - _normalised(y.float())).square()
                weighted = torch.einsum("nchw,c->nhw", difference, head.float())
                distances.append(weighted.mean(dim=(1, 2)))
        return distances

    def _check(self, a: torch.Tensor, b: torch.Tensor) -> None:
        smallest = SMALLEST[self.network]
        if a.shape != b.shape or a.ndim != 4 or a.shape[1] != 3 or min(a.shape[2:]) < smallest:
            raise InputError(
                f"LPIPS ({self.network}) needs two batches of one shape (N, 3, H, W) with H and W "
                f"of at least {smallest} pixels, got {tuple(a.shape)} and {tuple(b.shape)}."
            )

    def _load_published(self) -> None:
        """Copy the published weights, stored in Flax's layout, into the modules."""
        arrays = load_pickled_arrays(resolve(f"lpips-{self.network}"))
        backbone = "VGG16_0" if self.network == "vgg" else "AlexNet_0"
        convolutions = [conv for stage in self.stages for conv in _convolutions(stage)]
        with torch.no_grad():
            for number, conv in enumerate(convolutions):
                kernel = torch.from_numpy(arrays[f"{backbone}.Conv_{number}.kernel"])
                conv.weight.copy_(kernel.permute(3, 2, 0, 1))  # (h, w, in, out) -> (out, in, h, w)
                if conv.bias is not None:
                    conv.bias.copy_(torch.from_numpy(arrays[f"{backbone}.Conv_{number}.bias"]))
            for number, head in enumerate(self.heads):
                weight = torch.from_numpy(arrays[f"NetLinLayer_{number}.Conv_0.kernel"])
                head.copy_(weight.flatten())


def _normalised(features: torch.Tensor) -> torch.Tensor:
    """Features (N, C, h, w) with unit length over the channels.

    `vector_norm` has a finite gradient where all channels are zero, unlike sqrt of a sum.
    """
    length = torch.linalg.vector_norm(features, dim=1, keepdim=True)  # (N, 1, h, w)
    return features / (length + NORMALISATION_EPSILON)


def _vgg16() -> nn.ModuleList:
    """The convolutions of VGG16 (arXiv 1409.1556), cut before each max pooling."""
    stages = nn.ModuleList()
    channels = 3
    for width, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        layers: list[nn.Module] = [nn.MaxPool2d(2)] if len(stages) else []
        for _ in range(depth):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        stages.append(nn.Sequential(*layers))
    return stages


def _alexnet() -> nn.ModuleList:
    """The convolutions of AlexNet (arXiv 1404.5997), cut after each ReLU."""
    return nn.ModuleList(
        [
            nn.Sequential(nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU()),
            nn.Sequential(nn.MaxPool2d(3, 2), nn.Conv2d(64, 192, 5, padding=2), nn.ReLU()),
            nn.Sequential(nn.MaxPool2d(3, 2), nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
            nn.Sequential(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
            nn.Sequential(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()),
        ]
    )


def _convolutions(stage: nn.Module) -> list[nn.Conv2d]:
    return [module for module in stage.modules() if isinstance(module, nn.Conv2d)]
