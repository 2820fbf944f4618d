"""Networks other than the report's, as examples of what `--model` takes: each a function of the number of classes."""

import torch
from torch import Tensor, nn
from torch.nn import functional


def resnet18(classes: int) -> nn.Module:
    """torchvision's ResNet-18 with random weights, for images of 32 × 32 pixels: 11.2 million parameters.

    He et al. (2016), arXiv 1512.03385, whose first convolution of 7 × 7 with stride 2 and pooling would leave 8 × 8
    pixels for the rest: as is usual on CIFAR-10, it is 3 × 3 with stride 1 here, and nothing is pooled after it.
    """
    from torchvision.models import resnet18

    model: nn.Module = resnet18(weights=None, num_classes=classes)
    model.conv1 = nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return model


def three_layers(classes: int, width: int = 16) -> nn.Module:
    """Three convolutions of 3 × 3 with batch normalisation, then the mean over all places: 24,346 parameters.

    They have `width`, twice and four times as many filters.
    """
    return ThreeLayers(classes, (width, 2 * width, 4 * width))


class ThreeLayers(nn.Module):
    """Three blocks of convolution, batch normalisation, ReLU and max pooling, then the mean of each map."""

    def __init__(self, classes: int, filters: tuple[int, int, int]):
        super().__init__()
        inputs = (3, *filters)
        pairs = list(zip(inputs, filters, strict=False))
        self.convolutions = nn.ModuleList(nn.Conv2d(*pair, kernel_size=3, padding=1, bias=False) for pair in pairs)
        self.norms = nn.ModuleList(nn.BatchNorm2d(count) for count in filters)
        self.fc = nn.Linear(filters[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of normalised `images` (N, 3, H, W)."""
        maps = images
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            maps = functional.max_pool2d(torch.relu(norm(convolution(maps))), 2)
        logits: Tensor = self.fc(maps.mean((2, 3)))
        return logits
