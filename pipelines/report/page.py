"""The page of a report, which gathers its figures; the report is logged to the run that it is about."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.drawing.names import readable
from analysis.drawing.wording import counted, listed, model_label, settings
from analysis.page import Section, page
from analysis.results import table2
from analysis.results.proportions import CONFIDENCE
from pipelines.config import AnalysisConfig
from pipelines.report.exhibits import ONLY, Report, command_line
from pipelines.report.material import Material
from pipelines.report.network import Network
from pipelines.session.context import Context
from pipelines.session.display import full_width
from pipelines.session.mlflow_pages import run_page
from pipelines.session.notes import describe_retrained
from study.config import DataConfig
from study.provenance import git_commit, provenance, short_commit
from study.system.redaction import one_line
from study.tracking.failures import failure_recorded
from study.tracking.heartbeat import close_dead
from study.tracking.tags import analysis_tags, data_params

NUMBERED = "Figures and tables are numbered as in Wik (2023), “Tracing the Convolutions of a CNN”."
PAGE = "index.html"
"""The file name of both pages: of the whole report, and in its subfolder `ONLY` of the figures named with `--only`."""


def write_page(
    report: Report,
    parts: Mapping[str, Sequence[Section]],
    material: Material,
    notices: Sequence[str],
    command: str,
) -> None:
    """Writes the page to the report's folder."""
    network, config = material.network, material.config
    html = page(
        f"{model_label(network.name)} on {network.images}",
        " ".join([_lead(material.table2, material.networks), *([NUMBERED] if material.is_of_report else [])]),
        parts,
        facts=_facts(material, command),
        links=_links(report, config),
        notices=notices,
    )
    report.add_file(PAGE, html)


def publish(report: Report, material: Material, notices: Sequence[str], context: Context) -> Path:
    """Logs the folder to the retrained run, and prints the results and the path of the page, which it returns."""
    config, table, run = material.config, material.table2, material.network.run
    path, artifacts = report.folder / PAGE, f"report/{ONLY}" if config.only else "report"
    context.store.log_folder(run.id, report.folder, artifacts, leave_out=ONLY)
    if not config.only:
        describe_retrained(context.store, run)
    if len(table) and (not config.only or "table2" in config.only):
        print_table2(table2.answer(table), is_quiet=context.display.console.quiet)
    for line in notices:
        context.display.say(line)
    context.display.say(f"Report: {path}")
    context.say_pages(report=run_page(run, f"{artifacts}/{PAGE}"))
    return path


def print_table2(table: pd.DataFrame, *, is_quiet: bool) -> None:
    """Prints `table2.answer`; without the intervals on a terminal that has no room for them."""
    console, shown = Console(highlight=False, quiet=is_quiet), _table_of(table)
    if not console.is_terminal:
        console.width = full_width(shown, console)
    elif full_width(shown, console) > console.width:
        plain = {name: table[name].str.partition(" (")[0] for name in table.columns[2:]}
        shown = _table_of(table.assign(**plain))
    console.print(shown)


def _table_of(table: pd.DataFrame) -> Table:
    shown = Table(box=None, padding=(0, 1))
    for name in table:
        shown.add_column(str(name))
    for row in table.itertuples(index=False):
        shown.add_row(*(Text(one_line(cell)) for cell in row))
    return shown


def record(material: Material, context: Context) -> None:
    """Records the analysis as a run below the retrained one."""
    table, network, config = material.table2, material.network, material.config
    run, store = network.run, context.store
    close_dead(store, store.runs([run.dataset_key], stage="analysis", retrain_run=run.id, status="RUNNING"))
    run_id = store.start(
        run.dataset_key,
        f"analysis of {run.name}",
        tags=analysis_tags(run),
        params={
            **asdict(config),
            **data_params(run),
            **context.machine.params(),
            **provenance(),
        },
        parent=run.id,
    )
    with failure_recorded(store, run_id):
        rows = _test_rows(table).query("model == @network.name")
        if len(rows):
            store.log(run_id, {f"test_{row['measure']}": float(row["value"]) for row in rows.to_dict("records")})
    store.finish(run_id, "FINISHED", "complete")


def _test_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of single models, not of their differences, on the test images."""
    return table[(table["split"] == "test") & (table["minus"] == "")]


def _lead(table: pd.DataFrame, networks: Mapping[str, Network]) -> str:
    tests = _test_rows(table).query("measure == 'accuracy'").to_dict("records")
    if not tests:
        return "No predictions of the test images were kept."
    accuracies = [
        f"the {model_label(row['model'])} after {counted(networks[row['model']].config.epochs, 'epoch')} classifies "
        f"{row['value']:.1%} correctly "
        f"({CONFIDENCE:.0%} interval {100 * row['low']:.1f} to {row['high']:.1%})"
        for row in tests
    ]
    return f"Of the {tests[0]['images']:,} test images, which were held out, {listed(accuracies)}."


def _links(report: Report, config: AnalysisConfig) -> dict[str, str]:
    links = {"Every filter in the explorer": "explorer.html", "The measures as Markdown": "table2.md"}
    if not config.only:
        return {label: name for label, name in links.items() if name in report.files}
    whole = f"../{PAGE}"
    return {"The whole report": whole} if (report.folder / whole).is_file() else {}


def _facts(material: Material, command: str) -> dict[str, str]:
    facts = {}
    for name, network in material.networks.items():
        run, config = network.run, network.config
        facts[f"{model_label(name)} run"] = (
            f"{run.id}: {settings(config.differing())}, "
            f"{counted(config.epochs, 'epoch')}, seed {config.seed}, {run.device}, {run.precision}, "
            f"commit {short_commit(run.git_commit)}"
        )
    analysed = material.network.run
    facts["Data set"] = f"{analysed.dataset}, digest {analysed.dataset_digest[:16]}"
    if material.selected:
        image = material.selected
        named = f", {readable(image.file)}" if image.file else ""
        facts["Image under study"] = f"{image.description}{named}" + (f", --image {image.spec}" if image.spec else "")
    facts["This page"] = f"{command}, commit {short_commit(git_commit())}"
    return facts


def page_command(network: Network, config: AnalysisConfig, where: Sequence[str], data: DataConfig | None = None) -> str:
    """The command that makes this page again: the run, and every option that is not its default."""
    words = ["analyse", "--run", network.run.id]
    if data and data.recorded_dataset != network.run.dataset:
        words += ["--dataset", data.recorded_dataset]
    if data and data.skip_unreadable:
        words.append("--skip-unreadable")
    for item in fields(config):
        value, option = getattr(config, item.name), f"--{item.name.replace('_', '-')}"
        if value == item.default:
            continue
        if item.type is bool:
            words.append(option)
        else:
            words += [option, ",".join(value) if isinstance(value, tuple) else str(value)]
    return command_line(where, *words)
