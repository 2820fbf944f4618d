"""The commands on recorded runs, which list, serve, check, export and import them: options to settings to calls."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.options import BestDataset, Home, Json, Storage, Uri
from pipelines.cli.values import number, option
from pipelines.session.setup import MLFLOW_PORT, OPTUNA_PORT, home_of, store_of, stores_of
from study.config import STAGES
from study.errors import unknown
from study.system import interruption

app = typer.Typer()
ON_DATASET = "What is recorded on this data set: its key, or as for tune."


@app.command()
def runs(
    stage: Annotated[str, option("--stage", help=f"{', '.join(STAGES)}; empty: all but trials and replicates.")] = "",
    dataset: Annotated[str, option("--dataset", help=ON_DATASET)] = "",
    limit: Annotated[int, number("--limit", help="Number of runs to list.", least=1)] = 20,
    json: Json = False,
    home: Home = "",
    tracking_uri: Uri = "",
) -> None:
    """List the tracked runs, the latest first."""
    if stage not in ("", *STAGES):
        raise unknown("stage", stage, STAGES)
    from pipelines.show import show_runs

    show_runs(store_of(home, tracking_uri), stage=stage, dataset=dataset, limit=limit, as_json=json)


@app.command()
def show(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="best, best:ffnn, or any run by its id, a prefix of it, or its name.")
    ],
    dataset: BestDataset = "",
    json: Json = False,
    home: Home = "",
    tracking_uri: Uri = "",
) -> None:
    """Show a run: its settings, curves, files and pages."""
    from pipelines.show_run import show_run

    show_run(store_of(home, tracking_uri), run, dataset, as_json=json)


@app.command()
def ui(
    optuna: Annotated[bool, option("--optuna", help="Serve optuna-dashboard's pages of the searches instead.")] = False,
    port: Annotated[
        int | None,
        number("--port", f"Port of the page; default {MLFLOW_PORT}, --optuna {OPTUNA_PORT}.", least=1, most=65535),
    ] = None,
    host: Annotated[str, option("--host", help="Address it is served on.")] = "127.0.0.1",
    home: Home = "",
    tracking_uri: Uri = "",
    storage: Storage = "",
) -> None:
    """Serve MLflow's pages of the tracked runs on this machine."""
    from pipelines.serve import serve, serve_searches

    if optuna:
        serve_searches(home, storage, host, port or OPTUNA_PORT)
    else:
        serve(home, tracking_uri, host, port or MLFLOW_PORT)


@app.command()
def doctor(
    fix: Annotated[bool, option("--fix", help="Repair what can be repaired, after backing up both databases.")] = False,
    all_hosts: Annotated[
        bool,
        option("--all-hosts", help="Count processes on other machines as dead, without a look for signs of life."),
    ] = False,
    no_backup: Annotated[bool, option("--no-backup", help="Repair without backing up the databases.")] = False,
    json: Json = False,
    home: Home = "",
    tracking_uri: Uri = "",
    storage: Storage = "",
) -> None:
    """Check both stores and the files; --fix repairs them."""
    from pipelines.upkeep import doctor as stage

    folder = home_of(home)
    stage.require_whole(folder, tracking_uri, storage)
    context = stores_of(folder, tracking_uri, storage, is_quiet=json)
    result = stage.examine(context, stage.Options(fix=fix, all_hosts=all_hosts, backup=not no_backup))
    if json:
        print(stage.as_json(result))
    raise typer.Exit(1 if result.left else 0)


@app.command()
def export(
    target: Annotated[Path, typer.Argument(metavar="DIR|FILE.zip", help="Path to write; must not exist yet.")],
    search: Annotated[list[str] | None, option("--search", help="This search with its runs; may be repeated.")] = None,
    dataset: Annotated[list[str] | None, option("--dataset", help=ON_DATASET)] = None,
    run: Annotated[
        list[str] | None,
        option("--run", help="This run with what it needs: best, best:ffnn, an id, a prefix or a name."),
    ] = None,
    home: Home = "",
    tracking_uri: Uri = "",
    storage: Storage = "",
) -> None:
    """Write a snapshot of the home, with the hash of every file.

    By default of all runs, searches and models.
    """
    from pipelines.upkeep.export import export as stage
    from pipelines.upkeep.export import require_files

    folder = home_of(home)
    require_files(tracking_uri or folder.tracking_uri, storage or folder.storage_url)
    context = stores_of(folder, tracking_uri, storage)
    is_whole = stage(target.expanduser(), context, searches=search or [], datasets=dataset or [], runs=run or [])
    raise typer.Exit(0 if is_whole else 1)


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(metavar="DIR|FILE.zip", help="What `study export` wrote.")],
    max_size: Annotated[
        int, number("--max-size", help="Maximum size when unpacked, in GiB.", least=1, most=2**20)
    ] = 20,
    home: Home = "",
) -> None:
    """Create a new home from an exported study, after checking it.

    --home names the new folder.
    """
    from pipelines.session.display import Display
    from pipelines.upkeep.import_ import import_study

    interruption.check()
    import_study(source.expanduser(), home_of(home), most=max_size * 2**30, display=Display())
