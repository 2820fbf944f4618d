"""Transforms of images: torchvision's, imported when one is used, since that takes longer than torch's own import."""

from collections.abc import Callable

from torch import Tensor


def __getattr__(name: str) -> Callable[..., Tensor]:
    """The function `name` of `torchvision.transforms.v2.functional`."""
    from torchvision.transforms.v2 import functional

    transform: Callable[..., Tensor] = getattr(functional, name)
    return transform
