"""What the report shows, in the order in which it is read; the names are those that `study analyse --only` takes."""

import re
from collections.abc import Collection, Mapping
from typing import TypeVar

from analysis.explorer.page import MAPS
from study.errors import StudyError, unknown

T = TypeVar("T")

PARTS = {
    "What the models reach": ("table2", "mcnemar", "classes", "groups", "confusion", "roc", "calibration"),
    "What the data are": ("samples", "covariance"),
    "How training went": ("convergence", "kernel_convergence"),
    "What formed inside": (
        "image",
        *(
            name
            for layer, shown in MAPS.items()
            for name in (
                f"kernels_{layer}",
                f"kernel_{layer}",
                f"maps_{layer}",
                f"animation_{layer}",
                *(f"grid_{one}" for one in shown),
            )
        ),
        "explorer",
    ),
    "What each filter is for": (
        "filter_health",
        "ablation",
        "ablation_image",
        "selectivity",
        "patches_conv1",
        "patches_conv2",
    ),
    "The search and the experiments": ("search_heatmap", "search_importance", "dead_filters", "winner"),
    "How the layers compute": (
        "architecture",
        "concept_convolution",
        "concept_padding",
        "concept_dilation",
        "concept_stride",
        "concept_pooling",
        "worked_conv1",
    ),
}
"""The parts of the page, each with its figures and tables."""

NAMES = tuple(name for names in PARTS.values() for name in names)


FROM_PREDICTIONS = ("table2", "classes", "confusion", "roc", "calibration")
"""What takes predictions of a model, whichever it is."""

MADE_WITH = {
    "table2_intervals": "table2",
    "correlation": "covariance",
    "seeds": "convergence",
    "ablation_auc_lost": "ablation",
    "ablation_accuracy_lost": "ablation",
}
"""Figures and tables that are made together with another."""


def names_of(files: Collection[str]) -> tuple[str, ...]:
    """The names of what makes these figures or tables, which may also be called as their files are.

    Raises:
        StudyError: for one that is never made.
    """
    names = {file: re.sub(r"_filter\d+$", "", file) for file in files}
    names = {file: MADE_WITH.get(name, name) for file, name in names.items()}
    for file, name in names.items():
        if name not in NAMES:
            raise unknown("figure", file, NAMES)
    return tuple(dict.fromkeys(names.values()))


def from_images(filters: Mapping[str, int]) -> set[str]:
    """What takes the data set, of a network whose `filters` are followed (none where it has no convolutions)."""
    names = {"samples", "covariance", "filter_health", "kernel_convergence"}
    if filters:
        names |= {"ablation", "ablation_image", "selectivity", "patches_conv1", "patches_conv2", "explorer"}
    return names


def from_image(filters: Mapping[str, int]) -> set[str]:
    """What takes the image under study; see `from_images`."""
    names = _of_maps(filters)
    if filters:
        names |= {"image", "ablation_image", "explorer", *(name for name in NAMES if name.startswith("concept_"))}
    return names


def from_weights(filters: Mapping[str, int]) -> set[str]:
    """What takes the weights; see `from_images`."""
    kernels = {f"{kind}_{layer}" for layer in filters for kind in ("kernels", "kernel")}
    return from_images(filters) - {"samples", "covariance"} | kernels | _of_maps(filters)


def _of_maps(filters: Mapping[str, int]) -> set[str]:
    names = {f"{kind}_{layer}" for layer in filters for kind in ("maps", "animation")}
    names |= {f"grid_{one}" for layer in filters for one in MAPS[layer]}
    return names | ({"worked_conv1"} if "conv1" in filters else set())


def by_part(steps: Mapping[str, T]) -> dict[str, dict[str, T]]:
    """The steps in the order of the page, below its parts; parts without any are left out."""
    assert set(steps) <= set(NAMES), set(steps) - set(NAMES)
    parts = {part: {name: steps[name] for name in names if name in steps} for part, names in PARTS.items()}
    return {part: within for part, within in parts.items() if within}


def chosen(steps: Mapping[str, T], only: Collection[str]) -> dict[str, T]:
    """The steps that `only` names; all where it names none.

    Raises:
        StudyError: for one that this run does not have.
    """
    for name in only:
        if name not in steps:
            choices = ", ".join(name for name in NAMES if name in steps)
            raise StudyError(f"This run has no {name}: choose one of {choices}.")
    return {name: step for name, step in steps.items() if not only or name in only}
