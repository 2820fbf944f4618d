"""The images that the benchmarks train on."""

import torch

from study.images import Labelled


def random_images(count: int) -> Labelled:
    """`count` random images of CIFAR-10's size; for timings that do not depend on the content."""
    return Labelled(torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8), torch.arange(count) % 10)


def fewer(images: Labelled, of_each_class: int) -> Labelled:
    """The first `of_each_class` images of each class, in their order; 0: all."""
    if not of_each_class:
        return images
    members = [torch.nonzero(images.labels == label).flatten()[:of_each_class] for label in images.labels.unique()]
    return images.subset(torch.cat(members).sort().values)
