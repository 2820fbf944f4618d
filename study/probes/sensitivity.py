"""Sensitivity of a network's answers to changes of its images: moved, brighter, less contrast, noisy, blurred.

A convolution moves with its image; the linear layer reads fixed positions. `map_shifts` measures both, and what
the answers are when the last maps are moved back before the linear layer reads them.
"""

from collections.abc import Callable, Collection, Iterator
from functools import partial

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from study.architectures import CNNConfig
from study.geometry import receptive_fields
from study.images import Labelled, normalise
from study.models import CNN, flat
from study.probes import transforms
from study.training import predict

SHIFTS = (1, 2, 4, 6, 8)
"""Pixels by which the images are moved."""
DIRECTIONS = ((0, 1), (1, 0), (0, -1), (-1, 0))
"""Right, down, left and up, as (down, right)."""
FILLS = {"edge": "edge", "grey": "constant"}
"""What fills the border that moving an image opens, and torchvision's name of that padding."""
GREY = 128
NOISE_SEED = 0
Change = Callable[[Tensor], Tensor]


def moved(images: Tensor, down: int, right: int, fill: str = "edge") -> Tensor:
    """The images (N, 3, H, W), uint8, moved by whole pixels; `fill` is a key of `FILLS`."""
    reach = max(abs(down), abs(right))
    padded = transforms.pad(images, [reach], fill=GREY, padding_mode=FILLS[fill])
    return transforms.crop(padded, reach - down, reach - right, *images.shape[-2:])


def moved_in_turn(images: Tensor, pixels: int, fill: str = "edge") -> Tensor:
    """The images, each moved in one direction, by so many pixels: the first to the right, the next down, and so on.

    Several images tell more than one image in several directions, which takes as long.
    """
    result = torch.empty_like(images)
    for first, (down, right) in enumerate(DIRECTIONS):
        rows = slice(first, None, len(DIRECTIONS))
        result[rows] = moved(images[rows], pixels * down, pixels * right, fill)
    return result


def brightened(images: Tensor, factor: float) -> Tensor:
    """The images with brightness times `factor`; black for 0."""
    return transforms.adjust_brightness(images, factor)


def contrasted(images: Tensor, factor: float) -> Tensor:
    """The images with contrast times `factor`; of one grey for 0."""
    return transforms.adjust_contrast(images, factor)


def noisy(images: Tensor, sigma: float) -> Tensor:
    """The images with Gaussian noise of standard deviation `sigma`, in shares of the range; the same for each call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(NOISE_SEED)
        return transforms.gaussian_noise(images, sigma=sigma)


def blurred(images: Tensor, sigma: float) -> Tensor:
    """The images after a Gaussian blur with standard deviation `sigma`, in pixels."""
    side = 2 * int(3 * sigma + 0.5) + 1
    return transforms.gaussian_blur(images, [side, side], [sigma, sigma])


STRENGTHS: dict[str, tuple[Callable[[Tensor, float], Tensor], tuple[float, ...]]] = {
    "brightness": (brightened, (0.4, 0.7, 1.3, 1.6, 2.0)),
    "contrast": (contrasted, (0.2, 0.4, 0.6, 0.8, 1.5)),
    "noise": (noisy, (0.02, 0.05, 0.1, 0.15, 0.25)),
    "blur": (blurred, (0.5, 0.75, 1.0, 1.5, 2.5)),
}
"""The other changes, with their strengths: factors, and standard deviations in shares of the range and in pixels."""
NEUTRAL = {"brightness": 1.0, "contrast": 1.0, "noise": 0.0, "blur": 0.0}
"""The strength that leaves an image as it is."""
REFERENCE = {"moved": (4.0,), "brightness": (0.7,), "contrast": (0.6,), "noise": (0.05,), "blur": (1.0,)}
"""A medium strength of each change, to compare epochs by."""


def changes(fills: Collection[str] = tuple(FILLS)) -> Iterator[tuple[str, str, float, Change]]:
    """Every change: its name, the fill of the border, its strength, and the function that makes it."""
    for fill in fills:
        for pixels in SHIFTS:
            yield "moved", fill, pixels, partial(moved_in_turn, pixels=pixels, fill=fill)
    for name, (change, strengths) in STRENGTHS.items():
        for strength in strengths:
            yield name, "", strength, partial(_changed, change=change, strength=strength)


def _changed(images: Tensor, change: Callable[[Tensor, float], Tensor], strength: float) -> Tensor:
    return change(images, strength)


def sensitivity(model: nn.Module, images: Labelled) -> pd.DataFrame:
    """Accuracy, and the share of answers that stay the same, under every change.

    Returns:
        a row for each of `changes`, and one for each change at its neutral strength: change, fill, strength, images,
        accuracy, unchanged.
    """
    clean = predict(model, images.images).argmax(1)
    neutral = [*((name, "", strength) for name, strength in NEUTRAL.items()), *(("moved", fill, 0) for fill in FILLS)]
    rows = [(*each, *_unchanged(images, clean)) for each in neutral]
    for name, fill, strength, change in changes():
        rows.append((name, fill, strength, *_answers(model, images, clean, change)))
    return _table(rows)


def reference_sensitivity(model: nn.Module, images: Labelled) -> pd.DataFrame:
    """Like `sensitivity`, at the strengths of `REFERENCE` alone: a row for each change, and one for the clean images.

    Moved images have the edge repeated.
    """
    clean = predict(model, images.images).argmax(1)
    rows = [("clean", "", 0.0, *_unchanged(images, clean))]
    for name, fill, strength, change in changes(["edge"]):
        if strength in REFERENCE[name]:
            rows.append((name, fill, strength, *_answers(model, images, clean, change)))
    return _table(rows)


def _table(rows: list[tuple[str, str, float, int, float, float]]) -> pd.DataFrame:
    columns = ["change", "fill", "strength", "images", "accuracy", "unchanged"]
    table = pd.DataFrame(rows, columns=columns)
    return table.sort_values(["change", "fill", "strength"], kind="stable", ignore_index=True)


def _unchanged(images: Labelled, clean: Tensor) -> tuple[int, float, float]:
    """What `_answers` gives for the images as they are, whose answers are `clean`."""
    return len(images), _share(clean, images.labels.to(clean.device)), 1.0


def _answers(model: nn.Module, images: Labelled, clean: Tensor, change: Change) -> tuple[int, float, float]:
    """The number of images, and of the changed ones the accuracy and the share of answers that equal `clean`."""
    answers = predict(model, change(images.images)).argmax(1)
    return len(images), _share(answers, images.labels.to(clean.device)), _share(answers, clean)


@torch.no_grad()
def map_shifts(model: CNN, config: CNNConfig, images: Labelled) -> pd.DataFrame:
    """Whether the maps of a moved image are the moved maps, and what the linear layer makes of them.

    Returns:
        a row for each shift and layer of ReLU or pooled maps: layer, pixels; cosine_in_place, of the maps of the moved
        and the unmoved image at the same positions; and where the shift is a multiple of the layer's step:
        cosine_along and difference_along (the largest, as a share of the layer's largest value), of the moved map and
        the map of the moved image, at units that see no padding in either; for the last layer also unchanged and
        unchanged_back: the share of answers that stay, as they are and with the maps moved back before the linear
        layer reads them (the border that this opens repeats the edge). Images are moved right, with the edge repeated.
    """
    fields, rows = receptive_fields(config, model.side), []
    device = model.fc.weight.device
    before = _maps(model, images.images.to(device))
    clean = model.fc(flat(before["pool2"])).argmax(1)
    for pixels in SHIFTS:
        after = _maps(model, moved(images.images.to(device), 0, pixels))
        for layer, unmoved in before.items():
            field = fields[layer.replace("relu", "conv")]
            row = {"layer": layer, "pixels": pixels, "cosine_in_place": _cosine(unmoved, after[layer])}
            if pixels % field.step == 0:
                units, steps = range(unmoved.shape[-1]), pixels // field.step
                # The moved image repeats its edge in its first columns: these are no part of the unmoved one.
                inside = [u for u in units if field.inside(u) and field.start + field.step * u >= pixels]
                row |= _along(unmoved, after[layer], steps, inside, [u for u in units if field.inside(u)])
                if layer == "pool2":
                    back = moved_back(after[layer], steps)
                    row["unchanged"] = _share(model.fc(flat(after[layer])).argmax(1), clean)
                    row["unchanged_back"] = _share(model.fc(flat(back)).argmax(1), clean)
            rows.append(row)
    return pd.DataFrame(rows)


def _maps(model: CNN, images: Tensor) -> dict[str, Tensor]:
    activations = model.activations(normalise(images))
    return {layer: activations[layer] for layer in ("relu1", "pool1", "pool2")}


def moved_back(maps: Tensor, steps: int) -> Tensor:
    """Maps (N, filters, H, W) moved left by `steps` units, with the edge repeated."""
    steps = min(steps, maps.shape[-1] - 1)
    return functional.pad(maps[..., steps:], (0, steps, 0, 0), mode="replicate")


def _along(unmoved: Tensor, after: Tensor, steps: int, columns: list[int], rows: list[int]) -> dict[str, float]:
    """How well the moved map agrees with the map of the moved image, at `columns` and `rows` of the latter."""
    if not (columns and rows):
        return {}
    # Units that count are neighbours, so that both are views.
    down, across = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    there = after[:, :, down, across]
    here = unmoved[:, :, down, across.start - steps : across.stop - steps]
    largest = max(float(unmoved.abs().max()), 1e-30)
    return {"cosine_along": _cosine(here, there), "difference_along": float((here - there).abs().max()) / largest}


def _cosine(a: Tensor, b: Tensor) -> float:
    """The cosine of the images' maps, mean over the images for which neither is zero."""
    a, b = a.flatten(1), b.flatten(1)
    alive = a.any(1) & b.any(1)
    return float(functional.cosine_similarity(a, b)[alive].mean())


def _share(answers: Tensor, others: Tensor) -> float:
    return (answers == others).double().mean().item()
