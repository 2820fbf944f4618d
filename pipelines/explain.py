"""`study explain`: one answer of a retrained run, by the circuit and by every attribution method, logged back to it.

One image takes 47 s of processor time on one thread (Intel Xeon), of which circuit and methods are 5 s, and training
images 14 s.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from analysis.drawing.names import readable, readable_names
from analysis.drawing.wording import signed
from analysis.explanations import circuit, influence, methods
from analysis.explanations.decision import Decision
from analysis.explanations.faithfulness import short_verdicts
from analysis.page import Section, page
from analysis.results.classification import softmax
from pipelines.report import explanations, faithfulness, over_epochs
from pipelines.report.cache import FOLDER as CACHE
from pipelines.report.cache import Cache
from pipelines.report.exhibits import Report, command_line
from pipelines.report.network import Network, no_weights, pull
from pipelines.report.page import PAGE
from pipelines.session.context import Context
from pipelines.session.mlflow_pages import run_page
from study.config import DataConfig
from study.data import SIDE, Dataset, SelectedImage, normalise, select_image
from study.errors import StudyError
from study.probes.attributions import METHODS
from study.probes.circuit import rival_of
from study.provenance import provenance
from study.sources.image_folder import read_photo
from study.tracking import best

FOLDER = "explanations"
"""Subfolder of a report, and of its artifacts, with a folder for each explained image."""
NO_CIRCUIT = (
    "The circuit needs convolutions, which the ffnn does not have; the methods that apply to it are shown. Attention "
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
        image: see `select_image`; a file of any size is resized as for training.
        against: name of the rival class; empty: see `rival_of`.
        context: the stores, the machine and the display.
        data: the settings to load the data set, on which `best` is chosen; by default that of the run.
        faithful: whether to measure which methods can be believed, see `faithfulness.measure`.

    Raises:
        StudyError: for an unknown run, one without weights, an unknown image or class, or the predicted class as
            its own rival.
    """
    loaded = context.load(data) if data else None
    source = loaded.config.recorded_dataset if loaded else ""
    run = best.choose_retrained(context.store, spec, loaded.key if loaded else None, source)
    dataset = loaded or context.load(run.data_config)
    if run.dataset_digest != dataset.digest:
        raise StudyError(f"Run {run.name} was trained on other images than those of {dataset.source}.")
    network = pull(context.store, run, dataset.classes)
    if not network.files:
        raise StudyError(no_weights(run))
    selected, notice = _selected(dataset, image)
    pair, logits = _pair(network, selected, against)
    names = readable_names(network.classes)
    shown = tuple(names[name] for name in network.classes)
    network, selected = replace(network, classes=shown), replace(selected, description=readable(selected.description))
    folder = f"{run.dataset_key}-{run.model}-{run.id[:8]}/{FOLDER}/{_slug(selected, against)}"
    report = Report(context.report_folder(folder), names)
    lead = _lead(network, selected, logits, pair)
    context.display.say(lead)
    measured = None
    if faithful:
        measured = faithfulness.measure(network, dataset, context.display)
    elif faithfulness.is_kept(network):
        measured = faithfulness.show(network)
    ranking = short_verdicts(measured.table) if measured and measured.table is not None else {}
    parts = _parts(network, selected, dataset, pair, report, context, ranking)
    if measured:
        parts["Which methods can be believed"] = [report.add(measured)]
        context.display.say(measured.text)
    notices = [*filter(None, [notice]), *([NO_CIRCUIT] if network.name == "ffnn" else [])]
    for line in notices:
        context.display.say(line)
    words = ["explain", "--run", run.id, "--image", image or selected.description.split(" ")[0]]
    command = command_line(context.where, *words, *(["--against", against] if against else []))
    title = f"Why {selected.description} is classified as {shown[pair[0]]}"
    links = {"The whole report": f"../../{PAGE}"} if (report.folder / "../.." / PAGE).is_file() else {}
    facts = {"Run": run.id, "This page": f"{command}, commit {provenance()['git_commit'][:10]}"}
    report.add_file(PAGE, page(title, lead, parts, facts=facts, links=links, notices=notices))
    report.remove_stale()
    artifacts = f"report/{FOLDER}/{report.folder.name}"
    context.store.log_folder(run.id, report.folder, artifacts)
    context.display.say(f"Report: {report.folder / PAGE}")
    context.say_pages(explanation=run_page(run, f"{artifacts}/{PAGE}"))
    return report.folder / PAGE


def _selected(dataset: Dataset, spec: str) -> tuple[SelectedImage, str]:
    """The image, and for a photo a sentence on what was done to it."""
    path = Path(spec).expanduser()
    if not spec or not path.is_file():
        return select_image(dataset, spec), ""
    pixels, (width, height) = read_photo(path)
    photo = SelectedImage(torch.from_numpy(pixels.copy()), None, path.name)
    if (width, height) == (SIDE, SIDE):
        return photo, ""
    return photo, f"{path.name} ({width} × {height} pixels) was resized to {SIDE} × {SIDE}, as for training."


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
    name = image.description if image.label is None else image.description.split(" ")[0]
    return re.sub(r"[^\w.-]+", "-", f"{name}-against-{against}" if against else name).strip("-.") or "image"


def _lead(network: Network, image: SelectedImage, logits: np.ndarray, pair: Sequence[int]) -> str:
    """One sentence: the prediction, its margin, and whether it is right."""
    probabilities, (predicted, rival) = softmax(logits[None])[0], pair
    truth = ""
    if image.label is not None and image.label != predicted:
        truth = f", wrongly: it is {network.classes[image.label]}"
    return (
        f"The {network.name.upper()} classifies {image.description} as {network.classes[predicted]} "
        f"({probabilities[predicted]:.1%}){truth}; the margin over {network.classes[rival]} "
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
    """The sections of the page: for a CNN the circuit and how it formed, a map for each method, training images."""
    parts, train = {}, dataset.train
    with context.display.bar(f"explaining {image.description}", len(METHODS) + 3) as bar:

        def on_method(title: str) -> None:
            bar.advance()
            bar.note(title)

        if network.name == "cnn":
            bar.note("circuit")
            decision = explanations.decision(network, image, train, pair[1])
            parts["Which filters, and where"] = [report.add(circuit.show(decision))]
            context.display.say(_leading_filters(decision))
        attributions = explanations.attributions(network, image, train, pair, on_method)
        margin = " over ".join(network.classes[place] for place in pair)
        exhibit = methods.show(
            attributions, image=image.pixels, description=image.description, margin=margin, ranking=ranking
        )
        parts["What every method says"] = [report.add(exhibit)]
        if network.name == "cnn":
            bar.note("epochs")
            exhibit = over_epochs.show(network, dataset, image, pair, Cache(context.home.reports / CACHE))
            parts["How the reasons formed"] = [report.add(exhibit)]
        bar.note("training images")
        traced = report.add(influence.show(explanations.influence(network, image, train)))
        parts["Which training images taught it this"] = [traced]
    context.display.say(traced.text)
    return parts


def _leading_filters(decision: Decision) -> str:
    """The filters with the largest shares of both layers, a line for each layer."""
    lines = []
    for layer in decision.against:
        shares = decision.shares(layer)
        leading = sorted(decision.leading(layer), key=lambda filter: -abs(shares[filter]))[:LEADING]
        lines.append(f"{layer}: " + ", ".join(f"filter {filter} {signed(shares[filter])}" for filter in leading))
    return "\n".join(lines)
