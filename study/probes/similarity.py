"""Similarity of a network at different epochs: of its layers' maps, its answers, and the reasons for one of them."""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from study.images import normalise
from study.models import CNN
from study.probes.attributions import deep_shap
from study.probes.circuit import second_layer_shares
from study.probes.margins import pair_of
from study.probes.twin import twin
from study.training import evaluation_batch

LAYERS = ("pool1", "pool2", "fc")
"""The layers whose maps are compared; the last one gives the logits."""


def linear_cka(a: Tensor, b: Tensor) -> float:
    """Linear centred kernel alignment of two representations (N, features) of the same N images, from 0 to 1.

    Kornblith et al. (2019), "Similarity of Neural Network Representations Revisited", arXiv 1905.00414. NaN where one
    of them is the same for all images.
    """
    first, second = _centred_kernel(a), _centred_kernel(b)
    scale = first.norm() * second.norm()
    return float((first * second).sum() / scale) if scale > 0 else float("nan")


def _centred_kernel(values: Tensor) -> Tensor:
    """The products (N, N) of the centred rows: fewer numbers than the products of features."""
    centred = values - values.mean(0)
    return (centred @ centred.T).double()


@torch.no_grad()
def layers(model: CNN, images: Tensor) -> dict[str, Tensor]:
    """The outputs (N, features) of `LAYERS` for uint8 `images`."""
    size = evaluation_batch(images.device, images.shape[-1])
    batches = [model.activations(normalise(batch)) for batch in images.split(size)]
    return {name: torch.cat([batch[name].flatten(1) for batch in batches]) for name in LAYERS}


def layer_similarity(by_epoch: dict[int, dict[str, Tensor]]) -> pd.DataFrame:
    """How similar each layer's maps are to those of the last epoch, and how many answers change.

    Args:
        by_epoch: from `layers`, of the same images, by epoch in order.

    Returns:
        a row for each epoch: epoch; a column for each layer, its linear CKA with the last epoch's; changed, the share
        of images with another answer than at the epoch before (NaN at the first); differs, than at the last.
    """
    last, before, rows = by_epoch[max(by_epoch)], None, []
    for epoch, outputs in by_epoch.items():
        answers = outputs["fc"].argmax(1)
        changed = float("nan") if before is None else _share_differing(answers, before)
        differs, before = _share_differing(answers, last["fc"].argmax(1)), answers
        similar = {name: linear_cka(outputs[name], last[name]) for name in LAYERS}
        rows.append({"epoch": epoch, **similar, "changed": changed, "differs": differs})
    return pd.DataFrame(rows)


def _share_differing(answers: Tensor, others: Tensor) -> float:
    return (answers != others).double().mean().item()


def reasons(model: CNN, image: Tensor, a: int, b: int, background: Tensor) -> tuple[float, np.ndarray, np.ndarray]:
    """The margin of class a over b, the second layer's exact shares (filters,) in it, and its DeepSHAP map (H, W).

    `image` (3, H, W) and `background` (M, 3, H, W) are uint8.
    """
    shares = second_layer_shares(model, image[None], background)[0]
    with torch.no_grad():
        logits = model(normalise(image[None]))[0]
    pixels = deep_shap(twin(model), normalise(image[None]), pair_of(a, b), normalise(background))[0]
    return float(logits[a] - logits[b]), (shares[:, a] - shares[:, b]).detach().numpy(), pixels.numpy()
