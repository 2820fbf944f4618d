"""`study show RUN`: any run by any of its names, as text and as JSON."""

import json
import math
import sys

import pandas as pd
import pytest

from pipelines.show_run import WIDTH, _curves, show_run, sparkline
from study.errors import StudyError
from tests.conftest import Finished


def test_a_retrained_run_is_shown_with_its_settings_curves_files_and_page(
    finished_study: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    store, run_id = finished_study.context.store, finished_study.retrained["cnn"]
    show_run(store, "best")
    text = capsys.readouterr().out
    run, history = store.get(run_id), store.history(run_id)
    for part in (run.name, run_id, "finished (complete)", f"/runs/{run_id}", "weights/epoch_000.safetensors"):
        assert part in text
    assert f"Test accuracy {run.metrics['final_test_accuracy']:.4f}, train accuracy 0." in text
    # What one asks for comes first.
    places = [text.index(part) for part in ("Test accuracy", "by epoch", "  batch_size", "weights/epoch_000")]
    assert places == sorted(places)
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.startswith("  ")}
    assert {name: " ".join(rows[name]) for name, value in run.params.items() if value} == {
        name: value for name, value in run.params.items() if value
    }
    curve = history["test_accuracy"]
    [row] = [line.split() for line in text.splitlines() if line.startswith(" test_accuracy")]
    _, first, blocks, last, *_ = row
    assert (first, last) == (f"{curve.iloc[0]:.4g}", f"{curve.iloc[-1]:.4g}")
    assert len(blocks) == len(curve) == 3


def test_a_trial_and_a_search_are_shown_too(finished_study: Finished, capsys: pytest.CaptureFixture[str]) -> None:
    store, search = finished_study.context.store, finished_study.parents["ffnn"]
    show_run(store, search[:12])
    text = capsys.readouterr().out
    for part in (f"search {search}", "search/heatmap.csv", f"trials-{search}", f"compare-{search}"):
        assert part in text
    trial = store.runs(stage="trial", search="digits-ffnn")[0]
    show_run(store, trial.full_name)
    text = capsys.readouterr().out
    assert f"trial {trial.id}" in text
    assert f"\nBest validation accuracy {trial.metrics['best_val_accuracy']:.4f}.\n" in text


def test_as_json_it_is_whole_and_holds_no_number_that_json_has_not(
    finished_study: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    store, run_id = finished_study.context.store, finished_study.retrained["ffnn"]
    show_run(store, "best:ffnn", as_json=True)

    def refuse(constant: str) -> None:
        pytest.fail(constant)

    shown = json.loads(capsys.readouterr().out, parse_constant=refuse)
    run = store.get(run_id)
    assert (shown["id"], shown["params"], shown["metrics"]) == (run_id, run.params, run.metrics)
    assert [row["epoch"] for row in shown["history"]] == [0, 1, 2]
    # Nothing is trained before the first epoch.
    assert shown["history"][0]["train_loss"] is None
    assert math.isfinite(shown["history"][1]["train_loss"])
    assert "predictions/test.safetensors" in shown["files"]


def test_an_unknown_run_is_named_with_the_choices(finished_study: Finished) -> None:
    with pytest.raises(StudyError, match="Unknown run 'fog': choose best"):
        show_run(finished_study.context.store, "fog")


def test_infinite_values_are_left_out_of_a_curve() -> None:
    # As MLflow returns infinity.
    values = {"epoch": [0, 1, 2], "loss": [1.0, sys.float_info.max, 0.5], "once": [1.0, sys.float_info.max, math.nan]}
    curves = _curves(pd.DataFrame(values))
    assert {name: curve.to_dict() for name, curve in curves.items()} == {"loss": {0: 1.0, 2: 0.5}}


def test_a_curve_goes_from_its_lowest_to_its_highest_value() -> None:
    assert sparkline([0, 7, 3.5]) == "▁█▅"
    assert sparkline([2, 2]) == "▁▁"
    assert sparkline([4]) == "▁"
    line = sparkline([float(value) for value in range(1000)])
    assert len(line) <= WIDTH
    assert (line[0], line[-1], list(line)) == ("▁", "█", sorted(line))
