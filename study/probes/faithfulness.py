"""Faithfulness of attribution maps: whether they agree with what is measured when parts of the image are replaced.

All parts are made of the cells of an 8 × 8 grid (4 × 4 pixels each of a 32 × 32 image), and a map counts by its sum
over each cell: pixel by pixel, a blurred map scores higher than a sharp one. Parts are replaced by grey, by the blurred
image and by another image, since what replaces them picks the winner. The drops of the margin are measured once per
image; each map is then a matrix product.

- agreement: correlation of a map's sums over parts with the measured drops of the margin, of 49 overlapping squares of
  2 × 2 cells and of 20 random sets of each of three sizes; within one size only, since a larger set costs more
  whatever the map says.
- insertion minus deletion: mean probability of the class while the cells that the map ranks first are put in, minus
  that while they are taken out (Petsiuk et al. 2018, arXiv 1806.07421).
- checks: rank correlation of a map with that of the network whose layers have random weights, from the last layer on
  (Adebayo et al. 2018, arXiv 1810.03292), and with the map of another question. A map that stays the same explains
  neither the weights nor the answer.
"""

import copy
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata
from torch import Tensor, nn
from torch.nn import functional

from study.models import Model
from study.probes import transforms
from study.probes.attributions import GRID, METHODS, cells
from study.probes.convolution import EDGES
from study.probes.margins import BLUR, Pair, batch_size, blurred
from study.probes.twin import twin

SIZES = (8, 16, 32)
"""Numbers of cells, of the 64 of an image, in the random sets."""
SETS = 20
"""Random sets of each size."""
STEP = 4
"""Cells that insertion and deletion replace at a time."""
SEED = 0
CELLS = GRID**2
INFILLS = ("grey", "blur", "image")
CONTROLS = ("random", "smooth_random", "edges", "middle", "distance_from_grey")
"""Maps that know nothing of the network; a method has to do better than the best of them."""
OTHER = "other_classes"
"""The check that asks for two other classes."""
Maps = dict[str, Tensor]
"""A map (H, W) of one image, by method or control."""


def parts() -> tuple[Tensor, Tensor]:
    """The parts as masks of cells, float32 (parts, 64), and the group (parts,) of each: 0 for squares, then by size."""
    grid = cells(GRID)
    places = range(GRID - 1)
    squares = [grid[row : row + 2, column : column + 2].flatten() for row in places for column in places]
    generator = torch.Generator().manual_seed(SEED)
    sets = [torch.randperm(CELLS, generator=generator)[:size] for size in SIZES for _ in range(SETS)]
    masks = torch.stack([torch.zeros(CELLS).index_fill(0, chosen, 1.0) for chosen in [*squares, *sets]])
    groups = [0] * len(squares) + [group for group in range(1, len(SIZES) + 1) for _ in range(SETS)]
    return masks, torch.tensor(groups)


def cell_sums(maps: Tensor) -> Tensor:
    """The sums of maps (N, H, W) over the cells: (N, 64)."""
    return maps.new_zeros(len(maps), CELLS).index_add(1, cells(maps.shape[-1]).flatten(), maps.flatten(1))


def infills(image: Tensor, other: Tensor) -> dict[str, Tensor]:
    """What parts of the normalised image (3, H, W) are replaced by, in the order of `INFILLS`."""
    return dict(zip(INFILLS, (torch.zeros_like(image), blurred(image[None])[0], other), strict=True))


def control_maps(image: Tensor, seed: int) -> Maps:
    """The maps of `CONTROLS` for a normalised image (3, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(2, *image.shape[1:], generator=generator)
    grey = image.mean(0)
    padded = functional.pad(grey[None, None], (1, 1, 1, 1), mode="replicate")
    slopes = functional.conv2d(padded, torch.stack([EDGES, EDGES.T])[:, None])[0]
    places, blur = torch.linspace(-1, 1, len(grey)), len(grey) * BLUR
    maps = (
        noise[0],
        transforms.gaussian_blur(noise[1][None], [2 * round(3 * blur) + 1] * 2, [blur] * 2)[0],
        slopes.norm(dim=0),
        torch.exp(-2 * (places[:, None] ** 2 + places[None, :] ** 2)),
        image.abs().sum(0),
    )
    return dict(zip(CONTROLS, maps, strict=True))


@torch.no_grad()
def drops(network: nn.Sequential, image: Tensor, infill: Tensor, pair: Pair, masks: Tensor) -> Tensor:
    """What the margin of the pair loses where each part of the image is replaced: (parts,)."""
    logits = _logits(network, torch.cat([image[None], _replaced(image, infill, masks)]))
    margins = logits[:, pair[0][0]] - (0 if pair[1] is None else logits[:, pair[1][0]])
    return margins[0] - margins[1:]


def _replaced(image: Tensor, infill: Tensor, masks: Tensor) -> Tensor:
    """The image with the cells of each mask (parts, 64) replaced."""
    taken = masks[:, cells(image.shape[-1])][:, None]
    return image * (1 - taken) + infill * taken


def _logits(network: nn.Sequential, images: Tensor) -> Tensor:
    return torch.cat([network(batch) for batch in images.split(batch_size(images))])


def agreement(sums: Tensor, measured: Tensor, masks: Tensor, groups: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Correlation of the maps' sums over parts with the measured drops: (maps,) of squares, and of sets.

    Args:
        sums: (maps, 64), from `cell_sums`.
        measured: (parts,), from `drops`.
        masks: (parts, 64); also `groups`, from `parts`.
        groups: the correlation is within each, that of the sets the mean over their sizes. 0 for a constant map.
    """
    predicted = (sums.double() @ masks.double().T).numpy()
    of_group = [
        _correlation(predicted[:, groups == group], measured[groups == group].numpy()) for group in groups.unique()
    ]
    return of_group[0], np.mean(of_group[1:], axis=0)


def _correlation(rows: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Pearson's correlation of each row with `other`; 0 where one of them is constant."""
    rows, other = rows - rows.mean(1, keepdims=True), other.astype(float) - other.mean()
    scale = np.linalg.norm(rows, axis=1) * np.linalg.norm(other)
    return np.divide(rows @ other, scale, out=np.zeros(len(rows)), where=scale > 0)


@torch.no_grad()
def insertion_minus_deletion(
    network: nn.Sequential, image: Tensor, infill: Tensor, target: int, sums: Tensor
) -> Tensor:
    """Mean probability of `target` while each map's first cells are put in, minus that while taken out: (maps,)."""
    ranks = sums.argsort(dim=1, descending=True).argsort(dim=1)
    taken = torch.stack([(ranks < count).float() for count in range(0, sums.shape[1] + 1, STEP)], dim=1)
    # Deletion replaces the cells that rank first, insertion all others.
    masks = torch.stack([1 - taken, taken])
    images = _replaced(image, infill, masks.flatten(0, 2))
    probabilities = _logits(network, images).softmax(1)[:, target].view(masks.shape[:3]).mean(2)
    return probabilities[0] - probabilities[1]


def randomised(model: Model) -> Iterator[tuple[str, Model]]:
    """The model with random weights in its last layer, then in the last two, … in all; by the last one randomised."""
    changed = copy.deepcopy(model)
    layers = [(name, layer) for name, layer in changed.named_children() if isinstance(layer, nn.Conv2d | nn.Linear)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        for name, layer in reversed(layers):
            layer.reset_parameters()
            yield name, copy.deepcopy(changed)


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's correlation of two maps; 0 where one of them is constant."""
    ranks = [rankdata(values.flatten().numpy()) for values in (a, b)]
    return float(_correlation(ranks[0][None], ranks[1])[0])


def explained_pair(logits: Tensor) -> tuple[Pair, Pair | None]:
    """The two classes with the largest of `logits` (classes,), and another question: the third against the fourth.

    With three classes the third against the first; with two there is no other question.
    """
    order = logits.argsort(descending=True)
    other = None if len(order) < 3 else (order[2:3], order[3:4] if len(order) > 3 else order[:1])
    return (order[:1], order[1:2]), other


def measure(
    model: Model,
    images: Tensor,
    background: Tensor,
    *,
    checked: int,
    on_image: Callable[[], None] = lambda: None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The scores and the checks of every method that applies to the model, and of the controls.

    Args:
        model: the network, on the CPU.
        images: normalised, (N, 3, H, W), N ≥ 2: each is "another image" to the one before it.
        background: normalised background images of the methods.
        checked: how many of the images, evenly spaced, are checked with random weights and for other classes.
        on_image: called after each image.

    Returns:
        scores, a row for each image, infill and method: image, infill, method, squares, sets (correlations) and
        insertion_deletion; and checks: image, method, check (the name of the last layer with random weights, or
        `OTHER`), rank_correlation. Methods have the names of `METHODS`, controls those of `CONTROLS`.
    """
    network, masks_groups = twin(model.eval()), parts()
    random = [(name, twin(changed.eval())) for name, changed in randomised(model)]
    chosen = set(np.linspace(0, len(images) - 1, min(checked, len(images))).round().astype(int).tolist())
    scores, checks = [], []
    for number, image in enumerate(images):
        with torch.no_grad():
            pair, other = explained_pair(network(image[None])[0])
        maps = method_maps(network, image, pair, background) | control_maps(image, number)
        scores.append(_scores(network, image, images[number - 1], pair, maps, masks_groups).assign(image=number))
        if number in chosen:
            others = {name: method_maps(changed, image, pair, background) for name, changed in random}
            if other is not None:
                others[OTHER] = method_maps(network, image, other, background)
            checks.append(_checks(maps, others, image, number).assign(image=number))
        on_image()
    return pd.concat(scores, ignore_index=True), pd.concat(checks, ignore_index=True)


def method_maps(network: nn.Sequential, image: Tensor, pair: Pair, background: Tensor) -> Maps:
    """The map of every method that applies to the network, for one normalised image."""
    return {
        name: method.maps(network, image[None], pair, background)[0]
        for name, method in METHODS.items()
        if method.applies(network)
    }


def _scores(
    network: nn.Sequential, image: Tensor, other: Tensor, pair: Pair, maps: Maps, masks_groups: tuple[Tensor, Tensor]
) -> pd.DataFrame:
    sums, (masks, groups) = cell_sums(torch.stack(list(maps.values()))), masks_groups
    tables = []
    for name, infill in infills(image, other).items():
        squares, sets = agreement(sums, drops(network, image, infill, pair, masks), masks, groups)
        gained = insertion_minus_deletion(network, image, infill, int(pair[0]), sums).double().numpy()
        columns = {"squares": squares, "sets": sets, "insertion_deletion": gained}
        tables.append(pd.DataFrame({"infill": name, "method": list(maps), **columns}))
    return pd.concat(tables)


def _checks(maps: Maps, others: dict[str, Maps], image: Tensor, number: int) -> pd.DataFrame:
    # Controls do not know the network: their maps are the same, but for those drawn anew.
    controls = control_maps(image, number + 1_000_000)
    rows = [
        (method, check, rank_correlation(maps[method], changed))
        for check, of in others.items()
        for method, changed in (of | controls).items()
    ]
    return pd.DataFrame(rows, columns=["method", "check", "rank_correlation"])
