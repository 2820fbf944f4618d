"""The hash of everything that a report is made from: a report with the same hash is up to date."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

import torch

from analysis.drawing import fonts
from pipelines.report.cache import PACKAGES, fingerprint
from pipelines.report.material import Material
from pipelines.report.network import Network
from pipelines.session.notes import NOTE
from study.errors import StudyError
from study.provenance import provenance
from study.system.files import sha256
from study.tracking.runs import HEARTBEAT, WORKER
from study.tracking.store import Store

CODE = ("study", "pipelines", "analysis")
DRAWING = ("matplotlib", "pillow", "jinja2")
SOURCE = (".py", ".html", ".css", ".js")
ROOT = Path(__file__).parents[2]


def inputs_hash(material: Material, names: Mapping[str, str], command: str) -> str:
    """SHA-256 of the inputs of the whole page: runs, artifacts, images, settings, code and versions.

    Args:
        material: what the figures are made from.
        names: the class names that figures show.
        command: the command that makes the page, which it shows.
    """
    described = [
        asdict(material.config),
        dict(material.filters),
        command,
        str(material.device),
        list(names.items()),
        fonts.families(),
        _images(material),
        [list(_network(network)) for network in material.networks.values()],
        list(_runs(material)),
        list(_code()),
        provenance(),
        {package: version(package) for package in (*PACKAGES, *DRAWING)},
    ]
    return hashlib.sha256(json.dumps(described, default=str).encode()).hexdigest()


def _images(material: Material) -> Sequence[object]:
    dataset, selected = material.dataset, material.selected
    return (
        dataset and (dataset.digest, asdict(dataset.config), dataset.classes),
        dataset and (dataset.skipped, dataset.left_out, dataset.files),
        selected and (fingerprint(selected.image), selected.label, selected.description, selected.file),
        material.no_images,
    )


def _network(network: Network) -> Iterator[object]:
    run, store = network.run, network.store
    yield run.id, network.classes, network.missing, network.history.to_json(double_precision=15)
    yield {
        split: fingerprint(*map(torch.from_numpy, predictions)) for split, predictions in network.predictions.items()
    }
    for path in network.files.values():
        yield path, _digest(store, run.id, path)


def _runs(material: Material) -> Iterator[object]:
    """The runs on the same data set: a report shows searches, seeds and experiments too."""
    store, run = material.network.store, material.network.run
    for other in store.runs([run.dataset_key]):
        if other.stage != "analysis":
            # Every command that looks through a search names its own process in it, and describes it anew.
            tags = {name: value for name, value in other.tags.items() if name not in (WORKER, HEARTBEAT, NOTE)}
            yield replace(other, tags=tags)
    for search in material.own_searches:
        yield _digest(store, search.id, "search/importance.csv")


def _digest(store: Store, run_id: str, path: str) -> str:
    try:
        return store.digest(run_id, path)
    except StudyError as error:
        return str(error)


def _code() -> Iterator[tuple[str, str]]:
    for package in CODE:
        for path in sorted((ROOT / package).rglob("*")):
            if path.suffix in SOURCE or path.name == "matplotlibrc":
                yield str(path.relative_to(ROOT)), sha256(path)
