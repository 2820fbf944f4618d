"""Measurements that take a forward pass: the filters' activity and maps, and predictions without single filters.

Activity takes longest: 44 s of one core's time for 19 epochs of a CNN on 10,000 images (AMD EPYC, float32).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property, partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from analysis.explorer.page import Picture, Trace, value_ranges
from analysis.filters import effects, health, image_ablation, selectivity
from analysis.filters.patches import FilterResponses
from analysis.images import covariance, distance
from analysis.results import auc, classification, leads
from pipelines.report.cache import Cache, columns, fingerprint
from pipelines.report.network import Network
from study import images as study_images
from study import models, training
from study.architectures import CNNConfig
from study.convolutions import Convolutions
from study.data import Dataset
from study.images import Labelled
from study.models import CNN, Model
from study.probes import ablation as ablating
from study.probes import activity, responses
from study.selection import SelectedImage, select_image

SAMPLED = 1000
"""Test images on which activity is measured; silence is tested on all of them."""
FITTING = 12
"""Default number of images on the explorer's page: as many as fit side by side on a desktop."""
FORWARD = (study_images, models, training)
"""The modules that every forward pass depends on."""


def pixels(images: Labelled) -> tuple[np.ndarray, np.ndarray]:
    """The images as they are drawn, (N, H, W, 3) of bytes, and their labels."""
    return images.images.permute(0, 2, 3, 1).numpy(), images.labels.numpy()


def pixel_covariance(images: Labelled, cache: Cache) -> covariance.Covariance:
    """The covariance of all pixels of a random choice of the images."""
    rows = torch.from_numpy(covariance.choose(len(images)))
    chosen = images.subset(rows).images.contiguous()
    arrays = cache.arrays(
        "covariance", [fingerprint(chosen)], [covariance, distance], lambda: _flat(covariance.measure(chosen.numpy()))
    )
    return covariance.Covariance(
        dots=arrays.pop("dots"),
        zoom=arrays.pop("zoom"),
        variances=arrays.pop("variances"),
        positive=arrays.pop("positive").item(),
        images=arrays.pop("images").item(),
        reduced_by=arrays.pop("reduced_by").item(),
        table=pd.DataFrame(arrays),
    )


def _flat(measured: covariance.Covariance) -> dict[str, np.ndarray]:
    values = {field.name: getattr(measured, field.name) for field in fields(measured)}
    return columns(values.pop("table")) | {name: np.asarray(value) for name, value in values.items()}


def _model_on_device(network: Network, epoch: int, device: torch.device) -> nn.Module:
    return network.model(epoch).to(device).to(memory_format=torch.channels_last)


def activity_table(
    network: Network, test: Labelled, shown: Collection[str], device: torch.device, cache: Cache
) -> pd.DataFrame:
    """How active each filter is at every epoch, and how large its weights are; see `health.filter_health`.

    Of another network than the report's two, these are the filters of the convolutions `shown`.
    """
    rows, images = activity.stratified_rows(test.labels, SAMPLED), tested(network, test).channels_last().images
    shared = [fingerprint(images, rows), str(network.config.model), str(device), *(shown if network.is_own else ())]

    def measure(epoch: int) -> dict[str, np.ndarray]:
        model = _model_on_device(network, epoch, device)
        if isinstance(model, Model):
            measured = activity.activity(model, images, rows)
        else:
            measured = activity.convolution_activity(Convolutions(model, network.side), images, shown)
        return {f"{layer}.{name}": values for layer, item in measured.items() for name, values in asdict(item).items()}

    by_layer: dict[str, dict[int, dict[str, np.ndarray]]] = {}
    for epoch in network.epochs(1):
        inputs = [fingerprint(*network.weights(epoch).values()), *shared]
        for key, values in cache.arrays("activity", inputs, [activity, *FORWARD], partial(measure, epoch)).items():
            layer, _, name = key.partition(".")
            by_layer.setdefault(layer, {}).setdefault(epoch, {})[name] = values
    return health.filter_health({layer: network.layer_weights(layer) for layer in by_layer}, by_layer)


def tested(network: Network, test: Labelled) -> Labelled:
    """The test images on which silence is tested: all, for any but the report's small networks the sample."""
    return test.subset(activity.stratified_rows(test.labels, SAMPLED)) if network.is_own else test


def removal(network: Network, test: Labelled, device: torch.device, table: pd.DataFrame) -> dict[str, Any]:
    """What one of the report's networks loses without its dead filters; see `health.removal_caption`."""
    dead = health.dead_filters(table)
    model = _model_on_device(network, network.last, device)
    assert isinstance(model, Model)
    return {
        "filters": sum(map(len, dead.values())),
        "accuracy": training.evaluate(model, test)[1],
        "accuracy_without": training.evaluate(activity.without(model, dead), test)[1],
        "parameters": activity.parameters_without(model, {}),
        "parameters_without": activity.parameters_without(model, dead),
    }


@dataclass(frozen=True, eq=False)
class Filters:
    """The filters of a CNN after its last epoch, and their effect on the test images."""

    network: Network
    test: Labelled
    by: str
    """What replaces a filter's map: `mean` or `zero`."""
    cache: Cache

    @cached_property
    def model(self) -> CNN:
        """The network with its final weights."""
        model = self.network.model(self.network.last)
        assert isinstance(model, CNN)
        return model.eval()

    @cached_property
    def replacements(self) -> dict[str, Tensor]:
        """What replaces each filter's map, by layer."""
        return ablating.replacement_maps(self.model, self.test.images, self.by)

    @cached_property
    def effects(self) -> pd.DataFrame:
        """What every class loses without each filter; see `effects.ablation_effects`."""
        weights, settings = self.model.state_dict().values(), str(self.network.config.model)
        inputs = [fingerprint(*weights, self.test.images, self.test.labels), settings, self.network.classes, self.by]
        code = [ablating, activity, effects, leads, auc, classification, *FORWARD]
        return self.cache.table("ablation", inputs, code, self._effects)

    def _effects(self) -> pd.DataFrame:
        logits, without = self.logits(self.test.images)
        return effects.ablation_effects(logits, without, self.test.labels.numpy(), self.network.classes, self.by)

    def logits(self, images: Tensor) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The logits (N, classes) of the images, and those without each filter, (filters, N, classes) by layer."""
        ablated = ablating.ablate(self.model, images, self.replacements)
        return ablated.logits.numpy(), {layer: logits.numpy() for layer, logits in ablated.without.items()}

    @cached_property
    def _responses(self) -> dict[str, responses.Responses]:
        config = self.network.config.model
        assert isinstance(config, CNNConfig)
        return responses.filter_responses(self.model, config, self.test.images)

    def responses(self, layer: str) -> FilterResponses:
        """How the filters of `layer` respond to each test image."""
        response, weights = self._responses[layer], self.model.get_parameter(f"{layer}.weight")
        dilation = {"conv1": self.model.conv1, "conv2": self.model.conv2}[layer].dilation[0]
        return FilterResponses(
            response.peak,
            response.mean,
            response.top,
            response.left,
            response.side,
            weights.detach().numpy(),
            int(dilation),
        )

    @cached_property
    def selectivity(self) -> pd.DataFrame:
        """Which class each filter responds to most; see `selectivity.class_selectivity`."""
        means = {layer: response.mean for layer, response in self._responses.items()}
        return selectivity.class_selectivity(means, self.test.labels.numpy(), self.network.classes)


def image_effects(filters: Filters, image: SelectedImage, cache: Cache) -> pd.DataFrame:
    """What one image's class, or the predicted one, loses without each filter; see `image_ablation.image_effects`."""
    network, pixels = filters.network, image.image[None]

    def measure() -> pd.DataFrame:
        logits, without = filters.logits(pixels)
        target = int(logits[0].argmax()) if image.label is None else image.label
        of_image = {layer: changed[:, 0] for layer, changed in without.items()}
        return image_ablation.image_effects(logits[0], of_image, network.classes, target, filters.by)

    inputs = [fingerprint(*filters.model.state_dict().values(), filters.test.images, pixels)]
    settings = [str(network.config.model), network.classes, filters.by, image.label]
    return cache.table("image_ablation", [*inputs, *settings], [ablating, activity, image_ablation, *FORWARD], measure)


def firing(maps: Mapping[str, np.ndarray], names: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Whether each filter's ReLU map is positive anywhere, (filters,) by convolution.

    Args:
        maps: of an image, by name.
        names: the name of each convolution's ReLU.
    """
    return {layer: maps[name].max(axis=(1, 2)) > 0 for layer, name in names.items()}


def most_active(maps: Mapping[str, np.ndarray], names: Mapping[str, str]) -> dict[str, tuple[int, str]]:
    """The filter of each convolution that responds most to an image, and why it is followed, see `firing`."""
    means = {layer: maps[name].mean(axis=(1, 2)) for layer, name in names.items()}
    return {
        layer: (
            int(mean.argmax()),
            f"the one that responds most to this image: its mean after ReLU is {mean.max():.3g}.",
        )
        for layer, mean in means.items()
        if mean.max() > 0
    }


def other_images(dataset: Dataset, count: int | None) -> list[SelectedImage]:
    """Test images to show beside the one under study: the first of each class in turn, then the second of each, ….

    Args:
        dataset: the images.
        count: how many images the page shows in all; by default one of each class, as far as they fit.
    """
    labels = pd.Series(dataset.test.labels.numpy())
    turns = labels.groupby(labels).cumcount()
    in_turn = pd.DataFrame({"turn": turns, "label": labels}).sort_values(["turn", "label"], kind="stable")
    # With a given count one image more than fits: the image under study may be among them.
    chosen = in_turn[:count] if count else in_turn[in_turn["turn"] == 0][: FITTING - 1]
    return [select_image(dataset, f"test:{place}") for place in chosen.index]


def trace(network: Network, images: Sequence[SelectedImage]) -> Trace:
    """The CNN's weights at every epoch, with its maps and probabilities for the images."""
    config, epochs = network.config.model, sorted(network.files)
    assert isinstance(config, CNNConfig)
    pixels = torch.stack([image.image for image in images])
    ranges, inputs, probabilities = [], [], []
    for epoch in epochs:
        maps = network.activations(epoch, pixels)
        probabilities.append(classification.softmax(maps.pop("fc")))
        ranges.append(value_ranges(maps))
        inputs.append(maps["pool1"])
    names = [name for name in network.weights(epochs[0]) if name.startswith("conv")]
    return Trace(
        epochs=epochs,
        accuracy=[network.accuracy.get(epoch, np.nan) for epoch in epochs],
        weights={name: np.stack([network.weights(epoch)[name].numpy() for epoch in epochs]) for name in names},
        geometry={name: getattr(config, name) for name in ("stride", "padding", "dilation", "pool", "pooling")},
        ranges={name: np.stack([of_epoch[name] for of_epoch in ranges]) for name in ranges[0]},
        inputs=np.stack(inputs),
        probabilities=np.stack(probabilities),
    )


def pictures(images: Sequence[SelectedImage]) -> list[Picture]:
    """The images in the format of the explorer's page."""
    return [Picture(image.pixels, image.description, image.label) for image in images]
