"""Training images behind an answer: TracIn by the last layer, and the nearest neighbours before that layer.

Pruthi et al. (2020), "Estimating Training Data Influence by Tracing Gradient Descent", arXiv 2002.08484. A training
image's score is the sum over saved epochs of the learning rate times the product of two gradients, that of its own
loss and that of the loss of the image under study. Above 0: a step of gradient descent on it lowers that loss. Only the
weights of the last layer count, without the biases, and the networks train with Adam, whose steps are others.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from captum.influence import TracInCPFast
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from study.images import Labelled, normalise
from study.models import Model
from study.system import interruption
from study.training import evaluation_batch, predict

CHECKPOINTS = 5
"""Most epochs whose weights are used or compared."""


def checkpoint_epochs(saved: Collection[int]) -> list[int]:
    """Up to `CHECKPOINTS` of the saved epochs, from the first to the last: closer at the beginning, where most changes.

    The initial weights (epoch 0) are left out where there are others.
    """
    trained = sorted(epoch for epoch in saved if epoch > 0) or sorted(saved)
    places = np.geomspace(1, len(trained), min(CHECKPOINTS, len(trained))).round().astype(int)
    return [trained[place - 1] for place in sorted(set(places.tolist()))]


def tracin(
    model: Model, weights: Sequence[Mapping[str, Tensor]], learning_rate: float, train: Labelled, image: Labelled
) -> np.ndarray:
    """The score (N,) of each training image for one image with its class.

    Args:
        model: the network; it has the last of the `weights` afterwards.
        weights: after each of the epochs.
        learning_rate: the weight of each epoch.
        train: the training images.
        image: a single one.
    """

    def load(model: Model, state: Mapping[str, Tensor]) -> float:
        model.load_state_dict(state)
        return learning_rate

    def as_batch(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        interruption.check()
        return normalise(batch[0]), batch[1]

    size = evaluation_batch(train.images.device, train.images.shape[-1])
    batches = list(zip(train.images.split(size), train.labels.split(size), strict=True))
    # Captum turns on the gradients of the last layer; the others would only take time.
    scores = TracInCPFast(
        model.eval().requires_grad_(False),
        getattr(model, model.layers[-1]),
        DataLoader(batches, batch_size=None, collate_fn=as_batch),  # type: ignore[arg-type]  # a list has what it needs
        weights,
        load,
        nn.CrossEntropyLoss(reduction="sum"),
    ).influence((normalise(image.images), image.labels))
    return np.asarray(scores[0].detach())


def similarity(model: Model, images: Tensor, image: Tensor) -> np.ndarray:
    """Cosine (N,) of the input to the last layer for each of `images` (N, 3, side, side; uint8) with that for `image`.

    For the CNN these are the pooled maps of the second layer, for the FFNN the hidden units after ReLU.
    """
    return np.asarray(functional.cosine_similarity(_last_inputs(model, images), _last_inputs(model, image[None])))


def _last_inputs(model: Model, images: Tensor) -> Tensor:
    inputs: list[Tensor] = []
    last = getattr(model, model.layers[-1])
    hook = last.register_forward_pre_hook(lambda layer, arguments: inputs.append(arguments[0]))
    predict(model, images)
    hook.remove()
    return torch.cat(inputs)
