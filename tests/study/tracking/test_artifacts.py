import math
import os
import socket
import subprocess
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urlparse

import pytest
import torch

from study.errors import StudyError
from study.tracking.artifacts import SUMS, epoch_of, weights_path
from study.tracking.store import Store


def started(store: Store) -> str:
    return store.start("toys", "a run", tags={}, params={})


def file_of(store: Store, run_id: str, path: str) -> Path:
    root = store.client.get_run(run_id).info.artifact_uri
    return Path(unquote(urlparse(root).path)) / path


def test_tensors_come_back_bit_for_bit(store: Store):
    tensors = {
        "weights": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)),
        "odd": torch.tensor([math.nan, -0.0, math.inf, 1e-40]),
        "bytes": torch.arange(256, dtype=torch.uint8),
        "step": torch.tensor([3.0]),
        "half": torch.tensor([1.5, 2.5], dtype=torch.bfloat16),
    }
    run_id = started(store)
    store.log_tensors(run_id, "weights/epoch_000.safetensors", tensors, metrics='{"a": 1}')
    loaded, metadata = store.load_tensors(run_id, "weights/epoch_000.safetensors")
    assert metadata == {"metrics": '{"a": 1}'}
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert loaded[name].shape == tensor.shape
        assert torch.equal(loaded[name].flatten().view(torch.uint8), tensor.flatten().view(torch.uint8))
    assert store.artifacts(run_id, "weights") == ["weights/epoch_000.safetensors"]


def test_files_that_a_server_on_the_same_store_keeps_are_reached_without_it(store: Store):
    key = store.client.create_experiment("served", artifact_location="mlflow-artifacts:/7")
    run_id = store.client.create_run(key).info.run_id
    folder = store.home.store / "artifacts" / "7" / run_id / "artifacts"
    folder.mkdir(parents=True)
    (folder / "one.json").write_text('{"a": 1}')
    assert store.artifacts(run_id) == ["one.json"]
    assert store.load_json(run_id, "one.json") == {"a": 1}


def test_a_write_removes_what_a_killed_one_left_beside_it(store: Store):
    run_id = started(store)
    store.log_tensors(run_id, "weights/a.safetensors", {"a": torch.zeros(3)})
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    folder, host = file_of(store, run_id, "weights"), socket.gethostname()
    killed, alive = (folder / f".a.safetensors.{process}@{host}.part" for process in (ended.pid, os.getppid()))
    for left in (killed, alive):
        left.write_text("half")
    store.log_tensors(run_id, "weights/b.safetensors", {"a": torch.zeros(3)})
    assert not killed.exists()
    assert alive.exists(), "another process is writing it"


@pytest.mark.parametrize("left", [0, 5, 100, -1])
def test_a_cut_artifact_is_named(left: int, store: Store):
    run_id = started(store)
    store.log_tensors(run_id, "weights/a.safetensors", {"a": torch.zeros(100)})
    file = file_of(store, run_id, "weights/a.safetensors")
    file.write_bytes(file.read_bytes()[:left])
    with pytest.raises(StudyError, match=r"a\.safetensors") as raised:
        store.load_tensors(run_id, "weights/a.safetensors")
    assert run_id in str(raised.value)


def test_a_missing_artifact_is_named(store: Store):
    run_id = started(store)
    for load in (store.load_tensors, store.load_json):
        with pytest.raises(StudyError, match="has no artifact weights/none"):
            load(run_id, "weights/none")
    assert store.artifacts(run_id, "weights") == []


def test_a_folder_is_kept_with_all_below_it(store: Store, tmp_path: Path):
    (tmp_path / "kept" / "deep").mkdir(parents=True)
    (tmp_path / "kept" / "b.csv").write_text("1")
    (tmp_path / "kept" / "a.png").write_text("2")
    (tmp_path / "kept" / "deep" / "c.md").write_text("3")
    run_id = started(store)
    store.log_folder(run_id, tmp_path / "kept", "report")
    assert store.artifacts(run_id, "report") == ["report/a.png", "report/b.csv"]
    assert file_of(store, run_id, "report/deep/c.md").read_text() == "3"


def test_the_epoch_of_weights_is_read_off_their_path_alone():
    assert [epoch_of(weights_path(epoch)) for epoch in (0, 7, 30, 1234)] == [0, 7, 30, 1234]
    for other in ("weights/epoch_000.safetensors.more", "weights/epoch_x.safetensors", "epoch_000.safetensors", "a"):
        assert epoch_of(other) is None


COLUMNS = {"parameter": str, "importance": float}


@pytest.mark.parametrize(
    "content", [b"", b"a shopping list\n" * 9, b"[1]", b"parameter,importance\nlr,much\n", b"\xff"]
)
@pytest.mark.parametrize("path", ["a.json", "notes/a.json"])
def test_what_holds_no_json_or_no_table_is_named(path: str, content: bytes, store: Store):
    run_id = started(store)
    store.log_json(run_id, path, {"a": 1})
    file_of(store, run_id, path).write_bytes(content)
    for load in (store.load_json, partial(store.load_table, columns=COLUMNS)):
        with pytest.raises(StudyError, match=f"artifact {path} of run {run_id} cannot be read"):
            load(run_id, path)


def test_the_named_columns_of_a_table_are_read(store: Store, tmp_path: Path):
    run_id = started(store)
    (tmp_path / "a.csv").write_text("importance,other,parameter\n0.5,x,1\n")
    store.log_folder(run_id, tmp_path, "search")
    table = store.load_table(run_id, "search/a.csv", COLUMNS)
    assert table.to_dict("records") == [{"importance": 0.5, "parameter": "1"}]


def test_a_folder_that_is_kept_again_replaces_what_changed_alone(store: Store, tmp_path: Path):
    run_id = started(store)
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("1")
    store.log_folder(run_id, tmp_path, "report")
    same, other = (file_of(store, run_id, f"report/{name}") for name in ("a", "b"))
    before = same.stat().st_ino
    (tmp_path / "b").write_text("2")
    store.log_folder(run_id, tmp_path, "report")
    assert (same.stat().st_ino, other.read_text()) == (before, "2")


def test_hidden_files_of_a_folder_are_not_kept(store: Store, tmp_path: Path):
    (tmp_path / "kept" / ".made").mkdir(parents=True)
    for name in (".half.part", ".made/a.json", "b.csv"):
        (tmp_path / "kept" / name).write_text("1")
    run_id = started(store)
    store.log_folder(run_id, tmp_path / "kept", "report")
    kept = file_of(store, run_id, "report")
    assert list(kept.rglob("*")) == [kept / "b.csv"]


def test_a_folder_can_be_kept_without_one_of_its_own(store: Store, tmp_path: Path):
    for name in ("only/a.csv", "deep/only/a.csv", "b.csv"):
        (tmp_path / "kept" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "kept" / name).write_text("1")
    run_id = started(store)
    store.log_folder(run_id, tmp_path / "kept", "report", leave_out="only")
    kept = file_of(store, run_id, "report")
    assert {file for file in kept.rglob("*") if file.is_file()} == {kept / "b.csv", kept / "deep/only/a.csv"}


def test_an_artifact_that_is_being_written_is_not_listed(store: Store, monkeypatch: pytest.MonkeyPatch):
    run_id = started(store)
    store.log_json(run_id, "notes/a.json", {"a": 1})

    def stopped(tensors: dict[str, torch.Tensor], file: Path, metadata: object) -> None:
        file.write_bytes(b"half")
        assert store.artifacts(run_id, "notes") == ["notes/a.json"]
        raise KeyboardInterrupt

    monkeypatch.setattr("safetensors.torch.save_file", stopped)
    with pytest.raises(KeyboardInterrupt):
        store.log_tensors(run_id, "notes/b.safetensors", {})
    assert list(file_of(store, run_id, "notes").iterdir()) == [file_of(store, run_id, "notes/a.json")]


def test_sums_are_those_that_sha256sum_checks(store: Store):
    run_id = started(store)
    assert store.sums(run_id) == {}
    paths = ("weights/b.safetensors", "weights/a.safetensors", "predictions/test.safetensors")
    sums = {path: store.log_tensors(run_id, path, {"a": torch.rand(9)}) for path in paths}
    store.log_sums(run_id, sums)
    assert store.sums(run_id) == sums
    assert all(store.digest(run_id, path) == digest for path, digest in sums.items())
    command = ["sha256sum", "--check", "--strict", SUMS]
    checked = subprocess.run(command, cwd=file_of(store, run_id, ""), check=True, capture_output=True, text=True)
    assert checked.stdout.splitlines() == [f"{path}: OK" for path in sorted(paths)]


def test_an_altered_artifact_is_named(store: Store):
    run_id, path = started(store), "weights/a.safetensors"
    store.log_sums(run_id, {path: store.log_tensors(run_id, path, {"a": torch.zeros(9)})})
    store.load_tensors(run_id, path)
    store.log_tensors(run_id, path, {"a": torch.ones(9)})
    with pytest.raises(StudyError, match=f"artifact {path} of run {run_id} was altered"):
        store.load_tensors(run_id, path)


def test_sums_that_sha256sum_did_not_write_are_refused(store: Store):
    run_id = started(store)
    store.log_sums(run_id, {"a": "0" * 64})
    file_of(store, run_id, SUMS).write_text("half a line")
    with pytest.raises(StudyError, match=f"artifact {SUMS} of run {run_id} cannot be read"):
        store.sums(run_id)


@pytest.mark.parametrize("name", ["../a", "weights/../../a", "/etc/passwd", "weights/deep/a", "a"])
def test_names_from_a_server_cannot_lead_elsewhere(name: str, store: Store, monkeypatch: pytest.MonkeyPatch):
    run_id = started(store)
    monkeypatch.setattr(store, "root", lambda run_id: None)
    named = [SimpleNamespace(path=name, is_dir=False)]
    monkeypatch.setattr(store.client, "list_artifacts", lambda run_id, path: named)
    with pytest.raises(StudyError, match="lies elsewhere"):
        store.artifacts(run_id, "weights")


def test_nothing_outside_a_runs_folder_is_read_or_written(store: Store, tmp_path: Path):
    run_id = started(store)
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    with pytest.raises(StudyError, match="leads out of"):
        store.load_json(run_id, str(secret))
    with pytest.raises(StudyError, match="leads out of"):
        store.log_json(run_id, "../../outside.json", {})
    assert not list(store.home.store.rglob("outside.json"))
