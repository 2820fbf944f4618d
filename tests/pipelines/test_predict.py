"""`study predict`: the answers of the run's last weights for photos of any kind, as text, JSON and CSV."""

import csv
import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from pipelines.predict import predict
from pipelines.session.display import Display
from study.errors import StudyError
from study.images import normalise
from study.models import build_model
from study.tracking.artifacts import weights_path
from tests.conftest import Finished
from tests.support.photos import PIXELS, as_trained, png
from tests.support.process import study_here


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with a photo, the same with a transparent edge below another folder, and what is no photo."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    (folder / "a.png").write_bytes(png())
    Image.fromarray(PIXELS).convert("RGBA").save(folder / "more" / "b.webp", lossless=True)
    (folder / "notes.txt").write_text("nothing")
    (folder / ".hidden.png").write_bytes(png())
    return folder


def expected(finished: Finished, name: str) -> dict[str, float]:
    network = build_model(finished.searches[name].model, classes=10, seed=9)
    kept = finished.context.store.load_tensors(finished.retrained[name], weights_path(2))
    network.load_state_dict(kept[0])
    with torch.no_grad():
        [probabilities] = network(normalise(as_trained())).softmax(1).tolist()
    return dict(zip(finished.dataset.classes, probabilities, strict=True))


@pytest.mark.parametrize("model", ["cnn", "ffnn"])
def test_a_folder_is_classified_by_the_last_weights(
    model: str, finished_study: Finished, photos: Path, capsys: pytest.CaptureFixture[str]
):
    assert predict([str(photos)], f"best:{model}", finished_study.context.store, Display(True), "json")
    captured, answers = capsys.readouterr(), expected(finished_study, model)
    result = json.loads(captured.out)
    assert result["run"] == finished_study.retrained[model]
    assert [answer["image"] for answer in result["predictions"]] == [str(photos / "a.png"), str(photos / "more/b.webp")]
    for answer in result["predictions"]:
        assert answer["probabilities"] == pytest.approx(answers, abs=1e-6)
        assert answer["class"] == max(answers, key=answers.__getitem__)
        assert answer["probability"] == answer["probabilities"][answer["class"]]
    assert "2 images classified by" in captured.err
    assert "2 resized to 32 × 32 pixels, as for training" in captured.err
    assert "Not read in photos: hidden images (1: .hidden.png); other files (1: notes.txt).\n" in captured.err


def test_what_is_no_image_in_a_folder_is_said_in_one_line_and_is_no_failure(
    finished_study: Finished, photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    (photos / ".hidden.png").unlink()
    (photos / "vector.svg").write_text("<svg/>")
    monkeypatch.chdir(photos)
    assert predict(["."], "best", finished_study.context.store, Display(True), "csv")
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 3
    line = "Not read in photos: other files (1: notes.txt); unsupported SVG images (1: vector.svg)."
    assert line in captured.err.splitlines()


def test_the_table_and_csv_say_the_same_and_nothing_is_said_of_resizing_where_none_was(
    finished_study: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    store, answers = finished_study.context.store, expected(finished_study, "cnn")
    square = tmp_path / "square.png"
    Image.fromarray(as_trained()[0].permute(1, 2, 0).numpy()).save(square)
    assert predict([str(square)], "best", store, Display(), "table")
    text = capsys.readouterr().out
    first, second, *_ = sorted(answers, key=answers.__getitem__, reverse=True)
    row = next(line for line in text.splitlines() if str(square) in line)
    assert row.split()[1:5] == [first, f"{answers[first]:.1%}", second, f"{answers[second]:.1%},"]
    assert "1 image classified by the CNN" in text
    assert "resized" not in text
    assert predict([str(square)] * 2, "best", store, Display(True), "csv")
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 2
    assert [float(rows[1][f"p_{name}"]) for name in answers] == pytest.approx(list(answers.values()), abs=1e-6)


def test_of_several_pages_or_frames_the_first_is_classified_and_that_is_said(
    finished_study: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    first, other = Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)
    for name in ("pages.tiff", "frames.webp", "frames.png"):
        first.save(tmp_path / name, save_all=True, append_images=[other], lossless=True)
    first.save(tmp_path / "preview.jpg", "MPO", save_all=True, append_images=[other])
    first.save(tmp_path / "one.tiff")
    assert predict([str(tmp_path)], "best", finished_study.context.store, Display(True), "json")
    captured = capsys.readouterr()
    assert "5 images classified" in captured.err
    assert captured.err.endswith("; of 3 with several pages or frames, the first.\n")
    answers = {answer["image"]: answer for answer in json.loads(captured.out)["predictions"]}
    for name in ("pages.tiff", "frames.webp", "frames.png", "one.tiff"):
        found = answers[str(tmp_path / name)]["probabilities"]
        assert found == pytest.approx(expected(finished_study, "cnn"), abs=1e-6)


def test_standard_input_is_one_image(
    finished_study: Finished, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(png())))
    assert predict(["-"], "best", finished_study.context.store, Display(True), "json")
    [answer] = json.loads(capsys.readouterr().out)["predictions"]
    assert answer["image"] == "-"
    assert answer["probabilities"] == pytest.approx(expected(finished_study, "cnn"), abs=1e-6)


def test_what_cannot_be_read_is_named_the_others_are_classified_and_the_exit_code_is_2(
    finished_study: Finished, photos: Path
):
    (photos / "half.png").write_bytes(png()[:300])
    empty = photos.parent / "empty"
    empty.mkdir()
    ended = study_here("predict", str(photos), "no.jpg", str(empty), "--csv", home=finished_study.context.home.root)
    assert ended.code == 2
    assert len(list(csv.DictReader(io.StringIO(ended.out)))) == 2
    sentences = [line for line in ended.err.splitlines() if line.startswith("study: ")]
    assert [sentence.partition(" cannot be read as an image (")[0] for sentence in sentences] == [
        f"study: {photos / 'half.png'}",
        "study: no.jpg",
        f"study: {empty}",
    ]
    assert "no such file" in sentences[1]
    assert "holds no images" in sentences[2]


def test_best_is_that_of_the_named_data_set(finished_study: Finished, photos: Path):
    home = finished_study.context.home.root
    for command in (("predict", str(photos), "--csv"), ("show", "best")):
        assert study_here(*command, "--dataset", "digits", home=home).out == study_here(*command, home=home).out
        refused = study_here(*command, "--dataset", "dreams", home=home)
        assert refused.code == 2
        assert "Unknown data set 'dreams': choose one of " in refused.err


def test_two_forms_at_once_and_an_unknown_run_are_refused(finished_study: Finished, photos: Path):
    home = finished_study.context.home.root
    ended = study_here("predict", str(photos), "--csv", "--json", home=home)
    assert (ended.code, ended.out) == (2, "")
    with pytest.raises(StudyError, match="Unknown run 'nothing'"):
        predict([str(photos)], "nothing", finished_study.context.store, Display())


def test_altered_weights_classify_nothing(finished_study: Finished, photos: Path, monkeypatch: pytest.MonkeyPatch):
    store = finished_study.context.store
    sums = {weights_path(2): "0" * 64}
    monkeypatch.setattr(store, "sums", lambda *_: sums)
    with pytest.raises(StudyError, match="was altered"):
        predict([str(photos)], "best", store, Display())
