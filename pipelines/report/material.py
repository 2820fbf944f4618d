"""The inputs of a report's figures: the run and the other model's, the images, the searches, and the settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
import torch

from analysis.filters import image_ablation
from analysis.images.covariance import Covariance
from analysis.results import intervals, kinds
from pipelines.config import REPORT_FILTER, AnalysisConfig
from pipelines.report import measurements, tracked
from pipelines.report.cache import Cache
from pipelines.report.demonstrations import Patch, patch
from pipelines.report.network import SPLITS, Network
from study.data import Dataset
from study.selection import SelectedImage
from study.tracking.runs import Run

Predictions = tuple[np.ndarray, np.ndarray]
"""Logits (N, classes) and labels (N,)."""


@dataclass(frozen=True, eq=False)
class Material:
    """The inputs of a report's figures; what takes long to compute is computed once, when first needed."""

    network: Network
    """The run that is analysed."""
    networks: Mapping[str, Network]
    """It and the other model's best run, by model."""
    filters: Mapping[str, int] = field(default_factory=dict)
    """The filter of the report, or the chosen one, in each convolution that is shown; empty if there is none."""
    dataset: Dataset | None = None
    selected: SelectedImage | None = None
    """The image under study."""
    no_images: str = ""
    """Why the data set is missing."""
    config: AnalysisConfig = field(default_factory=AnalysisConfig)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    where: Sequence[str] = ()
    """The options that point a command to the home and the store at hand, see `Context.where`."""
    cache: Cache = field(default_factory=Cache)
    _maps: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self.network.classes

    @property
    def is_of_report(self) -> bool:
        """Whether the classes are CIFAR-10's, the report's: of others nothing is numbered as in the report."""
        return kinds.has_groups(self.classes)

    @property
    def data(self) -> Dataset:
        """The data set, for figures that need it."""
        assert self.dataset is not None
        return self.dataset

    @property
    def image(self) -> SelectedImage:
        """The image under study, for figures that need it."""
        assert self.selected is not None
        return self.selected

    @property
    def images(self) -> list[SelectedImage]:
        """The images of the explorer, the one under study first."""
        most = self.config.explorer_images
        others = measurements.other_images(self.dataset, most) if self.dataset else []
        return [self.image, *(other for other in others if other.description != self.image.description)][:most]

    def followed(self, layer: str) -> dict[int, str]:
        """The filters of `layer` to follow over the epochs, with a sentence on why.

        By default the report's filter and, where the images are at hand, the living one that matters most for the image
        under study; a chosen filter alone.
        """
        number = self.filters[layer]
        if self.config.filter is not None:
            return {number: ""}
        leading = self._leading.get(layer)
        if leading is None:
            return {number: ""}
        default = "the report's" if self.is_of_report else "the default"
        own = default if number == REPORT_FILTER else f"the last one, in place of {default} {REPORT_FILTER}"
        if leading[0] == number:
            return {number: f"Filter {number} is {own}, and {leading[1]}"}
        return {number: f"Filter {number} is {own}.", leading[0]: f"Filter {leading[0]} is {leading[1]}"}

    @cached_property
    def convolutions(self) -> dict[str, tuple[str, ...]]:
        """The names of the maps of each convolution that is compared: of a large network only those that are shown."""
        whole = self.network.convolutions
        return {layer: whole[layer] for layer in self.filters} if self.network.is_own else whole

    @property
    def rectified(self) -> dict[str, str]:
        """The name of the ReLU maps of each of the `convolutions` that a ReLU of its own follows."""
        return {layer: names[1] for layer, names in self.convolutions.items() if len(names) > 1}

    def maps(self, epoch: int) -> dict[str, np.ndarray]:
        """The output of the `convolutions`, their ReLU and pooling for the image under study; computed once."""
        if epoch not in self._maps:
            shown = {name for names in self.convolutions.values() for name in names}
            whole = self.network.maps(epoch, self.image)
            self._maps[epoch] = {name: values for name, values in whole.items() if name in shown}
        return self._maps[epoch]

    def filter_maps(self, layer: str, filter: int, epochs: Sequence[int]) -> dict[str, dict[int, np.ndarray]]:
        """The maps (H, W) of one filter for the image under study, by the name of the map and epoch."""
        return {name: {epoch: self.maps(epoch)[name][filter] for epoch in epochs} for name in self.convolutions[layer]}

    def rectified_maps(self) -> dict[str, dict[int, np.ndarray]]:
        """The ReLU maps (filters, H, W) of the image under study, by layer and epoch."""
        epochs = self.network.epochs(1)
        return {name: {epoch: self.maps(epoch)[name] for epoch in epochs} for name in self.rectified.values()}

    @property
    def start(self) -> tuple[str, int]:
        """The layer and the filter that the explorer shows first: one that lives, if there is any."""
        layer = next(iter(self.filters))
        return layer, [*self.followed(layer)][-1]

    @cached_property
    def image_effects(self) -> pd.DataFrame:
        """What the image's class loses without each filter, see `image_ablation.image_effects`."""
        return measurements.image_effects(self.ablated, self.image, self.cache)

    @cached_property
    def _leading(self) -> dict[str, tuple[int, str]]:
        """The living filter of each layer that matters most for the image under study, and how much it does.

        Of a network that is not the report's, the one that responds most to it.
        """
        if not self.dataset or not self.selected or not self.network.files:
            return {}
        maps = self.maps(self.network.last)
        if self.network.is_own:
            return measurements.most_active(maps, self.rectified)
        return image_ablation.leading(self.image_effects, measurements.firing(maps, self.rectified))

    @property
    def epochs(self) -> list[int]:
        """The epochs at which a filter is shown."""
        return self.network.epochs(self.config.epochs_every)

    @cached_property
    def kept_predictions(self) -> dict[tuple[str, str], Predictions]:
        """The predictions by model and split, those of the test images first, as far as they were kept."""
        return {
            (name, split): network.predictions[split]
            for split in reversed(SPLITS)
            for name, network in self.networks.items()
            if split in network.predictions
        }

    @cached_property
    def predictions(self) -> dict[str, Predictions]:
        """The predictions of the test images, by model, as far as they were kept."""
        return {model: kept for (model, split), kept in self.kept_predictions.items() if split == "test"}

    @cached_property
    def table2(self) -> pd.DataFrame:
        """Table 2 with intervals, see `intervals.measured`."""
        of_cifar10 = self.network.run.dataset == "cifar10"
        return intervals.measured(self.kept_predictions, self.classes, of_cifar10=of_cifar10)

    @cached_property
    def covariance(self) -> Covariance:
        """The covariance of the pixels of the training images."""
        return measurements.pixel_covariance(self.data.train, self.cache)

    @cached_property
    def searches(self) -> list[Run]:
        """The searches for the same model on the same data set."""
        return self.network.store.runs([self.network.run.dataset_key], stage="search", model=self.network.name)

    @cached_property
    def own_searches(self) -> list[Run]:
        """The search that chose the settings; empty where it has no run."""
        return [run for run in self.searches if run.search == self.network.run.search]

    @cached_property
    def trials(self) -> pd.DataFrame | None:
        """The finished trials of the search that chose the settings, see `analysis.searches.search`."""
        return tracked.trials(self.network.store, self.own_searches[0]) if self.own_searches else None

    @cached_property
    def retrained(self) -> pd.DataFrame:
        """The finished retrainings on the same data set, see `analysis.searches.network_sizes`."""
        return tracked.retrained(self.network.store, self.network.run.dataset_key)

    @cached_property
    def ablated(self) -> measurements.Filters:
        """The filters of the last epoch: what each responds to, and what is lost without it."""
        return measurements.Filters(self.network, self.data.test, self.config.ablation, self.cache)

    @cached_property
    def activity(self) -> pd.DataFrame:
        """How active each filter is at every epoch."""
        return measurements.activity_table(self.network, self.data.test, [*self.filters], self.device, self.cache)

    @cached_property
    def patch(self) -> Patch:
        """The patch of the image under study whose numbers are written out."""
        return patch(self.image)
