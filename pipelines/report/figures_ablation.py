"""What each filter is for: the steps of `study analyse` that replace filters, and show what they respond to.

They need the final weights and the test images; each of the three passes over those is made once, and only where a
figure asks for it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from torch import Tensor

from analysis.exhibit import Exhibit
from analysis.filters import ablation as effects
from analysis.filters import image_ablation, patches, selectivity
from pipelines.report.network import Network
from study.config import CNNConfig
from study.data import SelectedImage
from study.images import Labelled
from study.models import CNN
from study.probes.ablation import Ablation, ablate, replacement_maps
from study.probes.responses import Responses, filter_responses


@dataclass(frozen=True)
class Filters:
    """The filters of a CNN after its last epoch, and what they do with the test images."""

    network: Network
    test: Labelled
    by: str
    """What a filter's map is replaced by: `mean` or `zero`."""

    @cached_property
    def model(self) -> CNN:
        """The network with its final weights."""
        model = self.network.model(max(self.network.files))
        assert isinstance(model, CNN)
        return model.eval()

    @cached_property
    def replacements(self) -> dict[str, Tensor]:
        """What takes the place of each filter's map, by layer."""
        return replacement_maps(self.model, self.test.images, self.by)

    @cached_property
    def effects(self) -> pd.DataFrame:
        """What every class loses without each filter."""
        found = ablate(self.model, self.test.images, self.replacements)
        logits, without = _arrays(found)
        return effects.ablation_effects(logits, without, self.test.labels.numpy(), self.network.classes, self.by)

    @cached_property
    def responses(self) -> dict[str, Responses]:
        """What each filter makes of every test image, by layer."""
        config = self.network.config.model
        assert isinstance(config, CNNConfig)
        return filter_responses(self.model, config, self.test.images)

    @cached_property
    def selectivity(self) -> pd.DataFrame:
        """Which class each filter responds to most, and how much more than to the others."""
        means = {layer: found.mean for layer, found in self.responses.items()}
        return selectivity.class_selectivity(means, self.test.labels.numpy(), self.network.classes)


def _arrays(found: Ablation) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    return found.logits.numpy(), {layer: changed.numpy() for layer, changed in found.without.items()}


def show_effects(filters: Filters) -> Iterator[Exhibit]:
    """What each class loses without each filter, in AUC and in accuracy."""
    table = filters.effects
    for measure, what in (("auc_lost", "one-vs-rest AUC"), ("accuracy_lost", "accuracy")):
        figure = effects.draw_ablation(table, measure=measure)
        text, points = effects.caption(table, measure), effects.points(table, measure)
        yield Exhibit(f"ablation_{measure}", f"What each filter is for: {what}", text, table, figure, points=points)


def show_image_effects(filters: Filters, image: SelectedImage) -> Iterator[Exhibit]:
    """Which filters speak for and against the class of the image under study."""
    logits, without = _arrays(ablate(filters.model, image.image[None], filters.replacements))
    target = int(logits[0].argmax()) if image.label is None else image.label
    alone = {layer: changed[:, 0] for layer, changed in without.items()}
    table = image_ablation.image_effects(logits[0], alone, filters.network.classes, target, filters.by)
    figure = image_ablation.draw_image_effects(table, image=image.pixels, description=image.description)
    heading = f"Which filters speak for and against {filters.network.classes[target]} in {image.description}"
    text, points = image_ablation.caption(table), image_ablation.points(table)
    yield Exhibit("ablation_image", heading, text, table, figure, points=points)


def show_selectivity(filters: Filters) -> Iterator[Exhibit]:
    """The class that each filter responds to most."""
    table = filters.selectivity
    figure = selectivity.draw_selectivity(table, filters.network.classes)
    text, points = selectivity.caption(table), selectivity.points(table)
    heading = "Class selectivity of each filter"
    yield Exhibit("selectivity", heading, text, table, figure, points=points, note=selectivity.NOTE)


def show_patches(filters: Filters, layer: str) -> Iterator[Exhibit]:
    """The test patches that activate each filter of `layer` most."""
    found, weights = filters.responses[layer], filters.model.get_parameter(f"{layer}.weight").detach().numpy()
    labels, classes = filters.test.labels.numpy(), filters.network.classes
    table = patches.top_patches(found.peak, found.mean, (found.top, found.left), labels, classes)
    crops = patches.crop_patches(table, filters.test.images.numpy(), found.side)
    inputs = None if layer == "conv1" else patches.strongest_inputs(weights)
    dilation = {"conv1": filters.model.conv1, "conv2": filters.model.conv2}[layer].dilation[0]
    kernels = (
        patches.slice_pictures(weights, inputs, dilation) if inputs else patches.kernel_pictures(weights, dilation)
    )
    figure = patches.draw_top_patches(
        table,
        crops,
        title=f"{layer}: the test patches that activate each filter most",
        key=f"AUC lost: × 100. {_SLICES if inputs else _KERNELS}",
        notes=_notes(filters, layer, inputs),
        kernels=kernels,
    )
    note = patches.note(found.side) + (f" {_INPUTS}" if inputs else "")
    heading = f"What the filters of {layer} look for"
    yield Exhibit(f"patches_{layer}", heading, patches.caption(table), table, figure, note=note)


_KERNELS = "In the kernels, all on one scale, mid-grey is a weight of zero."
_SLICES = (
    "Left of the patches, from above, the kernels for the inputs, all on one scale: blue is a negative weight, white "
    "zero, red positive."
)
_INPUTS = "Inputs are the filters of conv1 that it weighs most."


def _notes(filters: Filters, layer: str, inputs: list[list[int]] | None) -> dict[int, list[str]]:
    """For each filter the class that it responds to most, the one that loses most AUC without it, and its inputs."""
    found, lost = filters.selectivity, effects.main_effects(filters.effects)
    losses = {
        row["filter"]: f"AUC lost {100 * row['lost']:.1f}: {row['class']}"
        for row in lost[(lost["layer"] == layer) & (lost["lost"] > 0)].to_dict("records")
    }
    notes = {}
    for row in found[found["layer"] == layer].to_dict("records"):
        number = row["filter"]
        notes[number] = [
            f"most for {row['class']}" if row["class"] else "too faint to be rated",
            losses.get(number, "AUC lost: none"),
        ]
        if inputs is not None:
            notes[number].append(f"inputs {', '.join(map(str, inputs[number]))}")
    return notes
