"""The images that the benchmarks train on."""

import torch

from study.images import Labelled


def fewer(images: Labelled, of_each_class: int) -> Labelled:
    """The first so many images of each class, in their order; all of them for 0."""
    if not of_each_class:
        return images
    members = [torch.nonzero(images.labels == label).flatten()[:of_each_class] for label in images.labels.unique()]
    return images.subset(torch.cat(members).sort().values)
