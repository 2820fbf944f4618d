"""The commands about what is recorded already: options to settings, settings to what is done with the stores."""

from typing import Annotated

import typer

from pipelines.options import HomeOption, Uri, number, option
from pipelines.surroundings import interruptible, store_of
from study.config import STAGES
from study.errors import unknown

app = typer.Typer()


@app.command()
@interruptible
def runs(
    stage: Annotated[str, option("--stage", help=f"{', '.join(STAGES)}; empty: all but trials and replicates.")] = "",
    limit: Annotated[int, number("--limit", help="The latest so many.", least=1)] = 20,
    home: HomeOption = "",
    tracking_uri: Uri = "",
) -> None:
    """List the tracked runs in the terminal, the latest first."""
    if stage not in ("", *STAGES):
        raise unknown("stage", stage, STAGES)
    from pipelines.show import show_runs

    show_runs(store_of(home, tracking_uri), stage, limit)


@app.command()
def ui(
    port: Annotated[int, number("--port", help="Port of the page.", least=1, most=65535)] = 5000,
    host: Annotated[str, option("--host", help="Address it is served on.")] = "127.0.0.1",
    home: HomeOption = "",
    tracking_uri: Uri = "",
) -> None:
    """Serve MLflow's pages of the tracked runs on this machine."""
    from pipelines.serve import serve

    serve(store_of(home, tracking_uri), host, port)
