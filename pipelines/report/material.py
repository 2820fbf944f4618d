"""What an analysis has at hand: the run and the one beside it, the images, the search, and what was asked for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, partial

import pandas as pd
import torch

from pipelines.report.figures_ablation import Filters
from pipelines.report.figures_explorer import others
from pipelines.report.figures_filters import activity_table
from pipelines.report.network import Network
from study.config import AnalysisConfig
from study.data import Dataset, SelectedImage
from study.tracking.runs import Run


@dataclass(frozen=True, eq=False)
class Material:
    """What the figures of a report are made from; what takes long is made once, when a figure first asks for it."""

    network: Network
    """The run that is analysed."""
    networks: Mapping[str, Network]
    """It and the other model's best, by model."""
    filters: Mapping[str, int] = field(default_factory=dict)
    """The filter that is followed, by convolution; empty for a network without any."""
    dataset: Dataset | None = None
    selected: SelectedImage | None = None
    """The image under study."""
    no_images: str = ""
    """Why the data set is not there."""
    config: AnalysisConfig = field(default_factory=AnalysisConfig)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    where: Sequence[str] = ()
    """The options that lead a command to the home and the store at hand, see `Context.where`."""

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
        """The images of the explorer; first the one under study."""
        most = self.config.explorer_images
        beside = others(self.dataset, most) if self.dataset else []
        return [self.image, *(other for other in beside if other.description != self.image.description)][:most]

    @property
    def epochs(self) -> list[int]:
        """The epochs at which a filter is shown."""
        return self.network.epochs(self.config.epochs_every)

    @cached_property
    def tested(self) -> dict[str, Network]:
        """The networks whose predictions of the test images were kept."""
        return {name: network for name, network in self.networks.items() if "test" in network.predictions}

    @cached_property
    def searches(self) -> list[Run]:
        """The searches for the same model on the same data set."""
        return self.network.store.runs([self.network.run.dataset_key], stage="search", model=self.network.name)

    @cached_property
    def own_searches(self) -> list[Run]:
        """The search that chose the settings, where its run is there."""
        return [run for run in self.searches if run.search == self.network.run.search]

    @cached_property
    def ablated(self) -> Filters:
        """What each filter is for."""
        return Filters(self.network, self.data.test, self.config.ablation)

    @cached_property
    def activity(self) -> Callable[[], pd.DataFrame]:
        """How active each filter is at every epoch; two figures need this table, which takes longest of all."""
        return cache(partial(activity_table, self.network, self.data.test, self.device))
