"""The figures of searches and experiments are checked by their hashes, and those of searches drawn again."""

from pathlib import Path

from pipelines.upkeep.doctor import Result
from study.tracking.tags import experiment_tags
from tests.support.patient import FIX, Patient


def test_figures_of_a_search_that_are_lost_or_altered_are_drawn_again(patient: Patient) -> None:
    run = patient.parent
    root = patient.store.root(run)
    assert root
    before, sums = {file: file.read_bytes() for file in root.rglob("*.*")}, patient.store.sums(run)
    assert {root / path for path in sums} == before.keys()
    (root / "search/history.csv").unlink()
    (root / "search/slices.png").write_bytes(b"something else")
    result = patient.examine(FIX)
    assert not result.left
    assert [(finding.message, finding.where[4:16]) for finding in result.repaired] == [
        ("search/history.csv of its figures is missing.", run[:12]),
        ("search/slices.png of its figures was altered: its SHA-256 is not that in SHA256SUMS.", run[:12]),
    ]
    assert patient.examine() == Result()
    assert {file for file, content in before.items() if file.suffix == ".csv" and file.read_bytes() != content} == set()


def test_figures_of_an_experiment_are_compared_by_the_same_command(patient: Patient, tmp_path: Path) -> None:
    store = patient.store
    (tmp_path / "report/more").mkdir(parents=True)
    for name in ("findings.md", "more/note.md"):
        (tmp_path / "report" / name).write_text("None are dead.\n")
    run = store.start("digits", "some", tags=experiment_tags("dead-filters", "cnn"), params={})
    store.log_sums(run, store.log_folder(run, tmp_path / "report", "experiment"))
    store.finish(run, "FINISHED", "complete")
    assert patient.examine() == Result()
    root = store.root(run)
    assert root
    (root / "experiment/findings.md").write_text("All are dead.\n")
    [finding] = patient.examine(FIX).left
    assert finding.message.startswith("experiment/findings.md of its figures was altered")
    assert "study experiment" in finding.remedy
