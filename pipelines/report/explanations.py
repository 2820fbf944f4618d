"""Collects what the explanations are drawn from: circuit, confusions by filter, all methods, training images."""

from collections.abc import Sequence

import numpy as np
import torch

from analysis.explanations.decision import Decision
from analysis.explanations.influence import Influence
from analysis.explanations.methods import Attribution
from analysis.explorer.page import Shares
from analysis.results.classification import softmax
from pipelines.report.cache import Cache, fingerprint
from pipelines.report.measurements import FORWARD
from pipelines.report.network import Network
from study.images import Labelled, normalise
from study.models import CNN
from study.probes import attributions as probes
from study.probes import circuit as probing
from study.probes import influence as tracing
from study.probes.activity import stratified_rows
from study.probes.margins import margins, pair_of
from study.probes.twin import twin
from study.selection import SelectedImage

TRACED = 5_000
"""Training images, as many of each class, whose influence is measured: 14 s of one core's time for a CNN."""
READ = {"cnn": "second-layer maps", "ffnn": "hidden units"}
"""What the last layer reads."""


def cnn(network: Network, epoch: int) -> CNN:
    """The CNN with its weights after an epoch."""
    model = network.model(epoch)
    assert isinstance(model, CNN)
    return model.eval()


def decision(network: Network, image: SelectedImage, train: Labelled, against: int | None = None) -> Decision:
    """The circuit of the predicted class over its rival in one image.

    Args:
        network: a CNN.
        image: the image under study.
        train: the training images, whose sample is the background.
        against: number of the rival; by default see `rival_of`.
    """
    model, background = cnn(network, network.last), probing.background(train)
    logits = network.activations(network.last, image.image[None])["fc"][0]
    chosen, rival = probing.rival_of(logits, image.label)
    measured = probing.circuit(model, image.image, chosen, rival if against is None else against, background)
    layers = tuple(measured.of_logits)
    return Decision(
        image=image.pixels,
        description=image.description,
        classes=network.classes,
        chosen=measured.a,
        rival=measured.b,
        probabilities=softmax(measured.logits[None])[0],
        margin=measured.margin,
        mean_margin=measured.mean_margin,
        background=len(background),
        pixels=measured.pixels,
        places=measured.places,
        against={layer: measured.against_each(layer) for layer in layers},
        links=measured.links,
        kernels={layer: network.layer_weights(layer, [network.last])[network.last] for layer in layers},
    )


def explorer_shares(network: Network, images: Sequence[SelectedImage], train: Labelled) -> Shares | None:
    """The second layer's shares in each image's margin at every epoch; None for a single class, which has no rival.

    Takes 2 s of one core's time for 30 epochs and 12 images. The class and its rival are those of the last epoch.

    Args:
        network: a CNN.
        images: the images of the explorer.
        train: the training images, whose sample is the background.
    """
    if len(network.classes) < 2:
        return None
    background, pixels = probing.background(train), torch.stack([image.image for image in images])
    models = [cnn(network, epoch) for epoch in sorted(network.files)]
    with torch.no_grad():
        logits = np.stack([model(normalise(pixels)).numpy() for model in models])
    pairs = [probing.rival_of(last, image.label) for last, image in zip(logits[-1], images, strict=True)]
    of_logits = np.stack([probing.second_layer_shares(model, pixels, background).numpy() for model in models])

    def margins(values: np.ndarray) -> np.ndarray:
        return np.stack([values[:, place, ..., a] - values[:, place, ..., b] for place, (a, b) in enumerate(pairs)], 1)

    return Shares(pairs, margins(logits), margins(of_logits), len(background))


def confusion_shares(network: Network, test: Labelled, train: Labelled, cache: Cache) -> np.ndarray:
    """The exact shares (N, filters, classes) of the second layer's filters in the logits of each test image."""
    model, background = cnn(network, network.last), probing.background(train)

    def measure() -> dict[str, np.ndarray]:
        return {"shares": probing.second_layer_shares(model, test.images, background).numpy()}

    inputs = [fingerprint(*model.state_dict().values(), test.images, background), str(network.config.model)]
    return cache.arrays("confusion_shares", inputs, [probing, *FORWARD], measure)["shares"]


def attributions(network: Network, image: SelectedImage, train: Labelled, pair: tuple[int, int]) -> list[Attribution]:
    """The map of each method that applies to the network, for the margin of one class over another.

    Args:
        network: a CNN or an FFNN.
        image: the image under study.
        train: the training images, whose sample is the background.
        pair: numbers of the class and of its rival.
    """
    explained = twin(network.report_model(network.last))
    images, background = normalise(image.image[None]), normalise(probing.background(train))
    classes = pair_of(*pair)
    margin, items = margins(explained, images, classes), []
    for name, method in probes.METHODS.items():
        if not method.applies(explained):
            continue
        values = method.maps(explained, images, classes, background)[0].numpy()
        expected = None
        if method.reference:
            expected = float(margin - method.reference(explained, images, classes, background))
        items.append(Attribution(name, method.title, values, method.signed, expected, method.less))
    return items


def influence(network: Network, image: SelectedImage, train: Labelled, files: Sequence[str] = ()) -> Influence:
    """The training images that moved the loss of one image, for its class or, where that is unknown, the predicted one.

    Args:
        network: a CNN or an FFNN.
        image: the image under study; training images that are equal to it are left out.
        train: the images that the network was trained on.
        files: the paths of their files, where they are known.
    """
    model = network.report_model(network.last)
    label = image.label
    if label is None:
        with torch.no_grad():
            label = int(model(normalise(image.image[None])).argmax())
    rows = stratified_rows(train.labels, TRACED)
    different = (train.images != image.image).flatten(1).any(1)
    rows = rows[different[rows]]
    sample, epochs = train.subset(rows), tracing.checkpoint_epochs(network.files)
    studied = Labelled(image.image[None], torch.tensor([label]))
    similarity = tracing.similarity(model, sample.images, image.image)
    weights = [network.weights(epoch) for epoch in epochs]
    return Influence(
        image=image.pixels,
        description=image.description,
        label=label,
        known=image.label is not None,
        classes=network.classes,
        epochs=epochs,
        learning_rate=network.config.learning_rate,
        layer=READ[network.name],
        of=int(different.sum()),
        rows=rows.numpy(),
        labels=sample.labels.numpy(),
        images=sample.images.permute(0, 2, 3, 1).numpy(),
        scores=tracing.tracin(model, weights, network.config.learning_rate, sample, studied),
        similarity=similarity,
        files=[files[row] for row in rows] if files else (),
    )
