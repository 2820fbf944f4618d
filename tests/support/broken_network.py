"""A network with a bug, which shows only while it is trained."""

from torch import Tensor, nn


class Broken(nn.Sequential):
    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            raise LookupError("a bug")
        return super().forward(images)


def build(classes: int) -> nn.Module:
    return Broken(nn.Flatten(), nn.Linear(3 * 32 * 32, classes))
