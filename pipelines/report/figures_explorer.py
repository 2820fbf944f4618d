"""The steps of the analysis that show training as it went: an animation, and a page to explore it by hand."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch

from analysis.exhibit import Exhibit
from analysis.explorer import page
from analysis.inside import animation
from analysis.results.classification import softmax
from pipelines.report.figures_maps import kernel_table, map_table
from pipelines.report.network import Network
from study.config import CNNConfig
from study.data import Dataset, SelectedImage, select_image
from study.errors import StudyError

FITTING = 12
"""Images on the explorer's page unless it is said how many: side by side they still fit a desktop's width."""


def others(dataset: Dataset, count: int | None) -> list[SelectedImage]:
    """The test images beside the one under study: the first of each class in turn, then the second of each, ….

    Args:
        dataset: the images.
        count: how many images the page shows in all; by default one of each class, as far as they fit.
    """
    labels = pd.Series(dataset.test.labels.numpy())
    turns = labels.groupby(labels).cumcount()
    in_turn = pd.DataFrame({"turn": turns, "label": labels}).sort_values(["turn", "label"], kind="stable")
    # One more than has room where it is said how many: the image under study may be among them.
    chosen = in_turn[:count] if count else in_turn[in_turn["turn"] == 0][: FITTING - 1]
    return [select_image(dataset, f"test:{place}") for place in chosen.index]


def trace(network: Network, images: Sequence[SelectedImage]) -> page.Trace:
    """The CNN at every epoch, and what it made of the images."""
    config = network.config.model
    assert isinstance(config, CNNConfig)
    pixels = torch.stack([image.image for image in images])
    epochs = sorted(network.files)
    accuracy = _accuracy(network)
    ranges, inputs, probabilities = [], [], []
    for epoch in epochs:
        made = network.activations(epoch, pixels)
        probabilities.append(softmax(made.pop("fc")))
        ranges.append(page.value_ranges(made))
        inputs.append(made["pool1"])
    names = [name for name in network.weights(epochs[0]) if name.startswith("conv")]
    return page.Trace(
        epochs=epochs,
        accuracy=[accuracy.get(epoch, np.nan) for epoch in epochs],
        weights={name: np.stack([network.weights(epoch)[name].numpy() for epoch in epochs]) for name in names},
        geometry={name: getattr(config, name) for name in ("stride", "padding", "dilation", "pool")},
        ranges={name: np.stack([one[name] for one in ranges]) for name in ranges[0]},
        inputs=np.stack(inputs),
        probabilities=np.stack(probabilities),
    )


def _accuracy(network: Network) -> dict[int, float]:
    measured = network.history.dropna(subset="test_accuracy")
    return dict(zip(measured["epoch"].astype(int), measured["test_accuracy"].astype(float), strict=True))


def pictures(images: Sequence[SelectedImage]) -> list[page.Picture]:
    """The images as the explorer's page takes them."""
    return [page.Picture(image.pixels, image.description, image.label) for image in images]


def show_animation(network: Network, layer: str, number: int, image: SelectedImage) -> Iterator[Exhibit]:
    """A filter's kernel and maps over all epochs, as an animation."""
    epochs = sorted(network.files)
    kernel = kernel_table(network, layer, number, epochs)
    maps = map_table(network, layer, number, epochs, image)
    shown = animation.frames(
        kernel,
        maps,
        _accuracy(network),
        layer=layer,
        image=image.pixels,
        title=f"Filter {number} of {layer} on {image.description}",
    )
    name = f"animation_{layer}_filter{number}"
    gif = animation.gif(shown)
    heading = f"Filter {number} of {layer} from epoch {epochs[0]} to {epochs[-1]}, animated"
    text = animation.caption(maps)
    yield Exhibit(name, heading, text, gif=gif)


def show_explorer(network: Network, start: tuple[str, int], images: Sequence[SelectedImage]) -> Iterator[Exhibit]:
    """The explorer of these images, a page of its own, and what this page says of it."""
    traced = trace(network, images)
    title = f"{network.name.upper()} on {network.run.dataset_key}: every filter, epoch by epoch"
    try:
        html = page.page(traced, pictures(images), network.classes, title=title, start=start)
    except ValueError as error:
        raise StudyError(f"The explorer cannot be written. {error}") from None
    yield Exhibit(
        "explorer",
        "Every filter, by hand",
        page.caption(traced),
        note=page.note(traced),
        link=("The explorer: explorer.html, beside this page", "explorer.html"),
        files={"explorer.html": html},
    )
