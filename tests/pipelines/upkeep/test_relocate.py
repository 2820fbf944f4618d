"""MLflow's own tables, changed where its interface cannot: over a folder that was moved."""

import shutil
from pathlib import Path

import pytest

from pipelines.upkeep.relocate import Tables, local
from study.tracking.store import Store


def test_what_is_copied_from_a_place_that_moved_is_whole_whatever_stops_it(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run_id = store.start("digits", "a run", tags={}, params={})
    (tmp_path / "curve.csv").write_text("epoch,loss\n1,0.5\n")
    store.client.log_artifact(run_id, str(tmp_path / "curve.csv"))
    place = store.client.get_experiment_by_name("digits").artifact_location
    copytree = shutil.copytree

    def killed(source: Path, target: Path) -> None:
        target.mkdir()
        raise KeyboardInterrupt

    tables, new = Tables(store.uri), f"{place}-elsewhere"
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copytree", killed)
        with pytest.raises(KeyboardInterrupt):
            tables.move(place, new)
    monkeypatch.setattr(shutil, "copytree", copytree)
    assert store.client.get_run(run_id).info.artifact_uri.startswith(f"{place}/")
    tables.move(place, new)
    tables.close()
    moved = local(store.client.get_run(run_id).info.artifact_uri)
    assert moved.is_relative_to(local(new))
    assert (moved / "curve.csv").read_text() == "epoch,loss\n1,0.5\n"
    assert (local(place) / run_id / "artifacts" / "curve.csv").is_file(), "what lies in the old place stays"
    assert not list(local(new).rglob("*.part"))
