"""Configuration of the analysis and of the experiments; that of data, models, training and search is `study.config`."""

from dataclasses import dataclass

from study.config import REPLACEMENTS
from study.errors import require, require_at_least, require_known

EXPERIMENTS = ("dead-filters", "winner", "recipe")
DEAD_FILTERS_EPOCHS = 5
"""Default epochs of the experiment dead-filters: deaths come within 40 steps, and weights collapse from the third epoch
on."""
WINNER_TOP = 3
"""Default number of trials that the experiment winner compares."""
REPORT_FILTER = 12
"""Default filter that the analysis follows, the report's."""
MOST_EXPLORER_IMAGES = 50


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """A named comparison of settings, each trained with several seeds and measured on the validation split."""

    name: str
    """`dead-filters` (what silences and collapses filters), `winner` (is the best trial better than the next?) or
    `recipe` (what do schedule, warm-up, optimiser, decay and epochs bring?)."""
    model: str = ""
    """`cnn`, `ffnn` or another network: whose search `winner` and `recipe` take; empty: the CNN's. `dead-filters` is
    about the CNN."""
    epochs: int | None = None
    """Epochs of each training; by default 5, for `winner` as many as in its search, for `recipe` a retraining's."""
    seeds: int = 3
    """Number of seeds for each setting."""
    seed: int = 0
    """The first seed."""
    top: int | None = None
    """Number of the search's best trials that `winner` compares; by default 3."""

    def __post_init__(self) -> None:
        require(self.name != "", f"Name an experiment: choose one of {', '.join(EXPERIMENTS)}.")
        require_known("experiment", self.name, EXPERIMENTS)
        require_at_least(1, seeds=self.seeds, epochs=self.epochs)
        require_at_least(0, seed=self.seed)
        require_at_least(2, top=self.top)
        if self.name == "dead-filters":
            require(
                self.model in ("", "cnn"),
                f"dead-filters trains the cnn, not {self.model}: leave out --model, or choose cnn.",
            )
        if self.name != "winner":
            require(self.top is None, f"{self.name} compares no trials: leave out --top.")


@dataclass(frozen=True, kw_only=True)
class AnalysisConfig:
    """Settings of an analysis."""

    image: str = ""
    """The image under study, `train:6`, `test:12`, `bird`, `bird/3` or a file; empty: the first training bird."""
    layer: str = ""
    """The convolutions to follow over the epochs, `conv1,conv2`; empty: both, of other networks the first and last."""
    filter: int | None = None
    """Number of the filter to follow; by default 12, as in the report, or the last one if there are fewer, and in each
    convolution the living filter that matters most for the image under study."""
    epochs_every: int = 2
    """Interval between the epochs that are shown."""
    per_map: bool = False
    """Whether each map of a layer's grid has its own colour scale; by default they share one."""
    ablation: str = "mean"
    """Replacement of an ablated filter's map: its `mean` over the test images, or `zero`."""
    explorer_images: int | None = None
    """Number of images in the explorer; by default the one under study and one of each class, at most 12."""
    only: tuple[str, ...] = ()
    """Names of the figures and tables to make; empty: all."""

    def __post_init__(self) -> None:
        require_known("ablation", self.ablation, REPLACEMENTS)
        require_at_least(1, epochs_every=self.epochs_every)
        require_at_least(0, filter=self.filter)
        require(
            self.explorer_images is None or 1 <= self.explorer_images <= MOST_EXPLORER_IMAGES,
            f"explorer images is {self.explorer_images}: it must be from 1 to {MOST_EXPLORER_IMAGES}.",
        )
