"""The end of the analysis: the page that gathers its figures, kept with the run that it is about."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path

import pandas as pd

from analysis import classification
from analysis.report import Section, page
from pipelines.analyse_statistics import predicted
from pipelines.artifacts import Network
from pipelines.context import Context
from pipelines.output import Report, write
from pipelines.pages import run_page
from study.config import CIFAR10_CLASSES, AnalysisConfig
from study.data import SelectedImage
from study.provenance import provenance

DATA_PARAMS = ("dataset", "dataset_digest", "validation_fraction", "split_seed", "skip_unreadable")
"""What a retrained run says of its data set, and its analysis too."""
WHOLE, CHOSEN = "index.html", "only.html"
"""The page of all figures, and that of those named with `--only`, which leaves the other as it is."""


def publish(
    report: Report,
    parts: Mapping[str, Sequence[Section]],
    networks: Mapping[str, Network],
    network: Network,
    image: SelectedImage | None,
    missing: Sequence[str],
    config: AnalysisConfig,
    context: Context,
) -> Path:
    """Writes the page, logs the folder to the retrained run, records the analysis as a run below it, and says so."""
    run, store = network.run, context.store
    measured = _measured(networks)
    path = report.folder / (CHOSEN if config.only else WHOLE)
    html = page(
        f"{network.name.upper()} on {run.tags['dataset']}",
        _lead(measured),
        parts,
        facts=_facts(networks, network, image, config),
        links=_links(report.folder, config),
        notices=missing,
    )
    write(path, html)
    store.log_folder(run.id, report.folder, "report")
    _record(measured, network, config, context)
    context.display.say(classification.to_markdown(measured))
    for line in missing:
        context.display.say(line)
    context.display.say(f"Report: {path}")
    context.say_pages(report=run_page(run, f"report/{path.name}"))
    return path


def _measured(networks: Mapping[str, Network]) -> pd.DataFrame:
    """The report's Table 2 of our networks, with the report's numbers beside it where the classes are CIFAR-10's."""
    table = classification.metrics_table(predicted(networks))
    comparable = all(set(network.classes) == set(CIFAR10_CLASSES) for network in networks.values())
    return classification.beside_report(table) if comparable else table


def _record(measured: pd.DataFrame, network: Network, config: AnalysisConfig, context: Context) -> None:
    run, store = network.run, context.store
    kept = store.start(
        run.tags["dataset"],
        f"analysis of {run.name}",
        tags={"stage": "analysis", "model": network.name, "dataset": run.tags["dataset"], "retrain_run": run.id},
        params={
            **asdict(config),
            **{name: run.params[name] for name in DATA_PARAMS},
            **context.machine.params(),
            **provenance(),
        },
        parent=run.id,
    )
    for own in measured[(measured["model"] == network.name) & (measured["split"] == "test")].to_dict("records"):
        store.log(kept, {f"test_{name}": float(own[name]) for name in classification.MEASURES})
    store.finish(kept, "FINISHED", "complete")


def _lead(measured: pd.DataFrame) -> str:
    tests = measured[measured["split"] == "test"]
    if tests.empty:
        return "No predictions of the test images were kept."
    said = " and ".join(
        f"the {name.upper()} classifies {accuracy:.1%} correctly"
        for name, accuracy in zip(tests["model"], tests["accuracy"], strict=True)
    )
    return f"Of the {tests['images'].iloc[0]:,} test images, which chose nothing, {said}."


def _links(folder: Path, config: AnalysisConfig) -> dict[str, str]:
    links = {"Every filter in the explorer": "explorer.html", "Table 2 as Markdown": "table2.md"}
    if config.only:
        links = {"The whole report": WHOLE}
    return {words: name for words, name in links.items() if (folder / name).is_file()}


def _facts(
    networks: Mapping[str, Network], network: Network, image: SelectedImage | None, config: AnalysisConfig
) -> dict[str, str]:
    facts = {}
    for name, one in networks.items():
        params = one.run.params
        facts[f"{name.upper()} run"] = (
            f"{one.run.id}: learning rate {one.config.learning_rate:.3e}, weight decay "
            f"{one.config.weight_decay:.3e}, {one.config.epochs} epochs, seed {one.config.seed}, "
            f"{params['device']}, {params['precision']}, commit {params['git_commit'][:10]}"
        )
    facts["Data set"] = f"{network.run.params['dataset']}, digest {network.run.params['dataset_digest'][:16]}"
    if image:
        facts["Image under study"] = image.description
    facts["This page"] = f"{_command(network, config)}, commit {provenance()['git_commit'][:10]}"
    return facts


def _command(network: Network, config: AnalysisConfig) -> str:
    """What makes this page again: the run, and every option that is not its default."""
    words = ["study", "analyse", "--run", network.run.id]
    for item in fields(config):
        value, option = getattr(config, item.name), f"--{item.name.replace('_', '-')}"
        if value == item.default:
            continue
        if item.type is bool:
            words.append(option)
        else:
            words += [option, ",".join(value) if isinstance(value, tuple) else str(value)]
    return shlex.join(words)
