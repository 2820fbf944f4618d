"""Paths of pages in MLflow's UI, to be appended to the address of its server."""

import json
from collections.abc import Sequence
from urllib.parse import quote

from study.tracking.runs import Run


def run_page(run: Run, artifact: str = "") -> str:
    """The page of a run, or one of its artifacts."""
    return f"/#/experiments/{run.experiment_id}/runs/{run.id}" + (f"/artifacts/{artifact}" if artifact else "")


def trials_page(experiment_id: str) -> str:
    """The page of an experiment's runs, trials below their search."""
    return f"/#/experiments/{experiment_id}/runs?workflowType=machine_learning"


def compare_page(experiment_id: str, run_ids: Sequence[str]) -> str:
    """The page that compares runs in parallel coordinates."""
    return f"/#/compare-runs?runs={quote(json.dumps(list(run_ids)))}&experiments={quote(json.dumps([experiment_id]))}"
