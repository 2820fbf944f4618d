"""What a figure of the report needs to be made, and what is said where it is missing."""

from collections.abc import Callable
from dataclasses import dataclass

from analysis.drawing.wording import listed
from analysis.results import kinds
from analysis.searches import network_sizes, pareto
from pipelines.report import faithfulness
from pipelines.report.material import Material
from pipelines.report.network import no_weights


@dataclass(frozen=True, eq=False)
class Need:
    """A condition that a figure needs to be made."""

    met: Callable[[Material], bool]
    reason: Callable[[Material], str] | None = None
    """Why it is not met; without a reason, the figure does not apply to such a run and is left out silently."""
    is_inherent: bool = False
    """Whether the reason is the network itself: a figure is then called not applicable, instead of missing."""


def _no_predictions(_: Material) -> str:
    return "No predictions of the test images were kept."


WEIGHTS = Need(lambda m: bool(m.network.files), lambda m: no_weights(m.network.run))
PREDICTIONS = Need(lambda m: bool(m.kept_predictions), _no_predictions)
TESTED = Need(lambda m: bool(m.predictions), _no_predictions)
TWO_MODELS = Need(lambda m: len(m.predictions) > 1)
GROUPS = Need(lambda m: bool(m.predictions) and kinds.has_groups(m.classes))
DATASET = Need(lambda m: m.dataset is not None, lambda m: m.no_images)
IMAGE = Need(lambda m: m.selected is not None, lambda m: m.no_images)
CONVOLUTIONS = Need(lambda m: bool(m.filters))
IS_CNN = Need(lambda m: m.network.name == "cnn")
RECTIFIED = Need(
    lambda m: not m.network.is_own or any(layer in m.rectified for layer in m.filters),
    lambda m: f"No ReLU follows {listed([*m.filters]) or 'a convolution'} alone, by which filters would be silent.",
    is_inherent=True,
)
EXACT = Need(
    lambda m: not m.network.is_own,
    lambda m: (
        "Computed for the report's CNN alone: two convolutions, each with ReLU and pooling, and one linear layer."
    ),
    is_inherent=True,
)
"""Marks figures that no other network can have."""
FOLLOWED = Need(lambda m: True)
"""Marks figures that follow a filter: which one matters most is measured on images, where they are at hand."""
FAITHFULNESS = Need(lambda m: faithfulness.is_kept(m.network))
SEARCH = Need(lambda m: bool(m.own_searches))
TRIALS = Need(lambda m: bool(m.own_searches) and m.own_searches[0].trials is not None)
SIZES = Need(lambda m: m.trials is not None and pareto.is_shown(m.trials))
RETRAINED_SIZES = Need(lambda m: network_sizes.is_shown(m.retrained, m.network.name))


def shown(layer: str) -> Need:
    """That filters of a convolution are shown."""
    return Need(lambda m: layer in m.filters)
