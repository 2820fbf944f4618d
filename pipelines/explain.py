"""`study explain`: one answer of a retrained run, by the circuit and by every attribution method, logged back to it.

One image takes 47 s of processor time on one thread (Intel Xeon); `SECONDS` says on what.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from analysis.drawing.names import readable, readable_names
from analysis.drawing.wording import all_quoted, model_label, quoted, signed
from analysis.exhibit import Exhibit
from analysis.explanations import circuit, influence, methods
from analysis.explanations.decision import Decision
from analysis.explanations.faithfulness import short_verdicts
from analysis.page import Section, page
from analysis.results.classification import softmax
from pipelines.report import explanations, faithfulness, over_epochs
from pipelines.report.cache import FOLDER as CACHE
from pipelines.report.cache import Cache, fingerprint
from pipelines.report.exhibits import Report, command_line
from pipelines.report.network import Network, no_weights, pull
from pipelines.report.page import PAGE
from pipelines.session.context import Context
from pipelines.session.mlflow_pages import run_page
from pipelines.session.ties import say_ties
from study.config import DataConfig
from study.data import Dataset, normalise
from study.errors import StudyError
from study.probes.circuit import rival_of
from study.provenance import git_commit, short_commit
from study.selection import SelectedImage, select_image
from study.sources.image_folder import read_file
from study.tracking import best

FOLDER = "explanations"
"""Subfolder of a report, and of its artifacts, with a folder for each explained image."""
FILTERS, METHODS, EPOCHS, TRAINING, BELIEVED = (
    "Which filters, and where",
    "What every method says",
    "How the reasons formed",
    "Which training images taught it this",
    "Which methods can be believed",
)
"""The parts of the page, by their headings."""
SECONDS = {FILTERS: 1, METHODS: 4, EPOCHS: 20, TRAINING: 14}
"""Each part's share of the progress: about its seconds of one core's time for a CNN (Intel Xeon)."""
NO_CIRCUIT = (
    "The circuit needs convolutions, which the FFNN does not have; the methods that apply to it are shown. Attention "
    "maps do not apply either: it has no attention."
)
LEADING = 5
"""Number of filters of each layer that are printed."""


def explain(
    spec: str, image: str, against: str, context: Context, data: DataConfig | None = None, *, faithful: bool = False
) -> Path:
    """Explains the answer that a run gives for one image; returns the page.

    Args:
        spec: see `best.choose_retrained`.
        image: see `select_image`; a file of any size is stretched as for training.
        against: name of the rival class; empty: see `rival_of`.
        context: the stores, the machine and the display.
        data: the settings to load the data set, on which `best` is chosen; by default that of the run.
        faithful: whether to measure which methods can be believed, see `faithfulness.measure`.

    Raises:
        StudyError: for an unknown run, one without weights, an unknown image or class, or the predicted class as
            its own rival.
    """
    network, dataset = _network(spec, data, context)
    context.store.writable(network.run.dataset_key)
    selected, notice = _selected(dataset, image)
    pair, logits = _pair(network, selected, against)
    folder = f"{network.run.dataset_key}-{network.name}-{network.run.id[:8]}/{FOLDER}/{_slug(selected, against)}"
    names = readable_names(network.classes)
    report = Report(context.report_folder(folder), names)
    words = ["--image", image or selected.spec, *(["--against", against] if against else [])]
    network = replace(network, classes=tuple(names[name] for name in network.classes))
    selected = replace(selected, description=readable(selected.description))
    lead = _lead(network, selected, logits, pair)
    context.display.say(lead)
    measured = _faithfulness(network, dataset, context, measure=faithful)
    ranking = short_verdicts(measured.table) if measured and measured.table is not None else {}
    parts = _parts(network, selected, dataset, pair, report, context, ranking)
    if measured:
        parts[BELIEVED] = [report.add(measured)]
        context.display.say(measured.text)
    notices = [*filter(None, [notice]), *([NO_CIRCUIT] if network.name == "ffnn" else [])]
    for line in notices:
        context.display.say(line)
    title = f"Why {selected.description} is classified as {quoted(network.classes[pair[0]])}"
    command = command_line(context.where, "explain", "--run", network.run.id, *words)
    facts = {"Run": network.run.id, "This page": f"{command}, commit {short_commit(git_commit())}"}
    links = {"The whole report": f"../../{PAGE}"} if (report.folder / "../.." / PAGE).is_file() else {}
    report.add_file(PAGE, page(title, lead, parts, facts=facts, links=links, notices=notices))
    return _logged(report, network, context)


def _network(spec: str, data: DataConfig | None, context: Context) -> tuple[Network, Dataset]:
    """The network of the run that `spec` names, and the images that it was trained on."""
    loaded = context.load(data) if data else None
    known = (loaded.key, loaded.config) if loaded else (None, None)
    run = best.choose_retrained(context.store, spec, *known)
    say_ties(spec, run, context.store, context.display.say)
    dataset = context.images_of(run, loaded)
    network = pull(context.store, run, dataset.classes)
    if network.is_own:
        raise StudyError(
            f"study explain follows the exact shares and gradients of the report's networks, cnn and ffnn, not of "
            f"{network.name}: `study analyse --run {spec}` shows its convolutions."
        )
    if not network.files:
        raise StudyError(no_weights(run))
    return network, dataset


def _faithfulness(network: Network, dataset: Dataset, context: Context, *, measure: bool) -> Exhibit | None:
    """Which methods can be believed: measured now, kept from an earlier time, or None."""
    if measure:
        return faithfulness.measure(network, dataset, context.display)
    return faithfulness.show(network) if faithfulness.is_kept(network) else None


def _logged(report: Report, network: Network, context: Context) -> Path:
    """Logs the report's folder to the run, and says where the page is; returns the page."""
    report.remove_stale()
    artifacts = f"report/{FOLDER}/{report.folder.name}"
    context.store.log_folder(network.run.id, report.folder, artifacts)
    context.display.say(f"Report: {report.folder / PAGE}")
    context.say_pages(explanation=run_page(network.run, f"{artifacts}/{PAGE}"))
    return report.folder / PAGE


def _selected(dataset: Dataset, spec: str) -> tuple[SelectedImage, str]:
    """The image, and a sentence: on its file, for a photo on what was done to it."""
    path, selected = Path(spec).expanduser(), select_image(dataset, spec)
    if selected.spec:
        return selected, f"The explained image is the file {readable(selected.file)}." if selected.file else ""
    side, read = dataset.side, read_file(path, dataset.side)
    photo = SelectedImage(torch.from_numpy(read.pixels.copy()), None, path.name)
    remarks = []
    if read.size != (side, side):
        width, height = read.size
        remarks.append(f"{path.name} ({width} × {height} pixels) was stretched to {side} × {side}, as for training.")
    if read.has_more:
        remarks.append(f"{path.name} has several pages or frames: the first is explained.")
    return photo, " ".join(remarks)


def _pair(network: Network, image: SelectedImage, against: str) -> tuple[tuple[int, int], np.ndarray]:
    """The numbers of the predicted class and of its rival, and the logits."""
    with torch.no_grad():
        logits = network.model(network.last)(normalise(image.image[None]))[0].numpy()
    predicted, rival = rival_of(logits, image.label)
    if not against:
        return (predicted, rival), logits
    others = [name for number, name in enumerate(network.classes) if number != predicted]
    if against not in others:
        known = "is what the network predicts" if against in network.classes else "is no class"
        raise StudyError(f"--against {against!r} {known}: choose one of {', '.join(others)}.")
    return (predicted, network.classes.index(against)), logits


def _slug(image: SelectedImage, against: str) -> str:
    """The name of the page's folder; that of a photo tells photos with the same file name apart."""
    name = image.spec or f"{image.description}-{fingerprint(image.image)[:6]}"
    return re.sub(r"[^\w.-]+", "-", f"{name}-against-{against}" if against else name).strip("-.") or "image"


def _lead(network: Network, image: SelectedImage, logits: np.ndarray, pair: Sequence[int]) -> str:
    """One sentence: the prediction, its margin, and whether it is right."""
    probabilities, (predicted, rival) = softmax(logits[None])[0], pair
    names, truth = all_quoted(network.classes), ""
    if image.label is not None and image.label != predicted:
        truth = f", wrongly: it is {names[image.label]}"
    return (
        f"The {model_label(network.name)} classifies {image.description} as {names[predicted]} "
        f"({probabilities[predicted]:.1%}){truth}; the margin over {names[rival]} "
        f"({probabilities[rival]:.1%}) is {signed(logits[predicted] - logits[rival])} logits."
    )


def _parts(
    network: Network,
    image: SelectedImage,
    dataset: Dataset,
    pair: tuple[int, int],
    report: Report,
    context: Context,
    ranking: Mapping[str, str],
) -> dict[str, list[Section]]:
    """The parts of the page: for a CNN the circuit and how it formed, a map for each method, training images."""
    cache = Cache(context.home.reports / CACHE)
    exhibits: dict[str, Callable[[], Exhibit]] = {
        FILTERS: partial(_circuit, network, image, dataset, pair, context),
        METHODS: partial(_methods, network, image, dataset, pair, ranking),
        EPOCHS: partial(over_epochs.show, network, dataset, image, pair, cache),
        TRAINING: partial(_training_images, network, image, dataset, context),
    }
    if network.name == "ffnn":
        del exhibits[FILTERS], exhibits[EPOCHS]
    parts = {}
    total = sum(SECONDS[heading] for heading in exhibits)
    with context.display.bar(f"explaining {image.description}", total) as bar:
        for heading, make_exhibit in exhibits.items():
            bar.note(heading)
            parts[heading] = [report.add(make_exhibit())]
            bar.advance(SECONDS[heading])
    return parts


def _circuit(
    network: Network, image: SelectedImage, dataset: Dataset, pair: tuple[int, int], context: Context
) -> Exhibit:
    decision = explanations.decision(network, image, dataset.train, pair[1])
    context.display.say(_leading_filters(decision))
    return circuit.show(decision)


def _methods(
    network: Network, image: SelectedImage, dataset: Dataset, pair: tuple[int, int], ranking: Mapping[str, str]
) -> Exhibit:
    return methods.show(
        explanations.attributions(network, image, dataset.train, pair),
        image=image.pixels,
        description=image.description,
        margin=" over ".join(quoted(network.classes[place]) for place in pair),
        ranking=ranking,
    )


def _training_images(network: Network, image: SelectedImage, dataset: Dataset, context: Context) -> Exhibit:
    exhibit = influence.show(explanations.influence(network, image, dataset.train, dataset.files.get("train", ())))
    context.display.say(exhibit.text)
    return exhibit


def _leading_filters(decision: Decision) -> str:
    """The filters with the largest shares of both layers, a line for each layer."""
    lines = []
    for layer in decision.against:
        shares = decision.shares(layer)
        leading = sorted(decision.leading(layer), key=lambda filter: -abs(shares[filter]))[:LEADING]
        lines.append(f"{layer}: " + ", ".join(f"filter {filter} {signed(shares[filter])}" for filter in leading))
    return "\n".join(lines)
