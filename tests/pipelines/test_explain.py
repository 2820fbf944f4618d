import re
from collections.abc import Callable
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipelines.explain import explain
from pipelines.report import faithfulness
from study.errors import StudyError
from study.probes import attributions
from study.probes.attributions import METHODS
from study.tracking.best import best_trial
from study.tracking.store import Store
from study.tracking.tags import retrain_tags
from tests.conftest import Finished, copy_of
from tests.support.legibility import watched
from tests.support.process import study_here
from tests.support.refusal import assert_refused_or_done, contents


@pytest.fixture(autouse=True)
def few_samples(monkeypatch):
    monkeypatch.setattr(attributions, "SAMPLES", dict.fromkeys(attributions.SAMPLES, 130))
    monkeypatch.setattr(attributions, "STEPS", 50)


def text_of(page: Path) -> str:
    return unescape(re.sub("<[^>]+>", "", page.read_text()))


def test_an_image_of_the_cnn_has_its_circuit_and_every_method_and_is_logged(finished_study, capsys):
    context = finished_study.context

    with watched() as problems:
        page = explain("best", "test:12", "", context)

    assert problems == {"circuit": [], "methods": [], "over_epochs": [], "influence": []}
    shares = pd.read_csv(page.parent / "circuit.csv")
    rival = shares["against"][0]
    sums = shares[shares["against"] == rival].groupby("layer")["share"].sum()
    links = pd.read_csv(page.parent / "circuit_links.csv")["share"].sum()
    pixels = pd.read_csv(page.parent / "circuit_pixels.csv")["share"].sum()
    assert [links, pixels, sums["conv2"]] == pytest.approx([sums["conv1"]] * 3, abs=1e-4)
    assert set(pd.read_csv(page.parent / "methods.csv")["method"]) == set(METHODS)
    logged = context.store.artifacts(finished_study.retrained["cnn"], f"report/explanations/{page.parent.name}")
    assert {Path(file).name for file in logged} >= {"index.html", "circuit.png", "methods.csv"}
    printed = capsys.readouterr().out
    assert f"margin over “{rival}”" in printed
    assert re.search(r"conv2: filter \d [+−]\d", printed)
    assert text_of(page).count("Which filters, and where") >= 1


def test_against_another_class_the_margin_is_over_that_class(finished_study):
    page = explain("best", "test:12", "", finished_study.context)
    shares = pd.read_csv(page.parent / "circuit.csv", dtype={"for": str, "against": str})
    other = next(
        name for name in finished_study.dataset.classes if name not in (shares["for"][0], shares["against"][0])
    )

    against = explain("best", "test:12", other, finished_study.context)

    assert against != page
    table = pd.read_csv(against.parent / "circuit.csv", dtype={"for": str, "against": str})
    assert table["against"][0] == other
    columns = ["layer", "filter", "against"]
    merged = shares.merge(table, on=columns)
    assert len(merged) == len(shares)
    assert np.allclose(merged["share_x"], merged["share_y"], atol=1e-6)
    margins = [pd.read_csv(folder / "over_epochs.csv")["margin"].iloc[-1] for folder in (page.parent, against.parent)]
    assert margins[0] != margins[1]


def test_an_ffnn_says_that_the_circuit_needs_convolutions_and_shows_the_methods_that_apply(finished_study):
    page = explain("best:ffnn", "test:12", "", finished_study.context)

    assert not (page.parent / "circuit.png").exists()
    methods = set(pd.read_csv(page.parent / "methods.csv")["method"])
    assert methods == {name for name, method in METHODS.items() if not method.layer}
    assert "The circuit needs convolutions" in text_of(page)
    assert "no attention" in text_of(page)


def test_a_photo_of_any_size_is_stretched_and_the_page_says_so(finished_study, tmp_path: Path):
    pixels = np.zeros((60, 100, 3), np.uint8)
    pixels[:, 20:80] = 200
    Image.fromarray(pixels).save(tmp_path / "photo.png")

    page = explain("best", str(tmp_path / "photo.png"), "", finished_study.context)

    text = text_of(page)
    assert "photo.png (100 × 60 pixels) was stretched to 32 × 32, as for training" in text
    assert re.fullmatch(r"photo\.png-[0-9a-f]{6}", page.parent.name)


@pytest.mark.parametrize(
    ("image", "against", "named"),
    [("test:12", "fish", "is no class: choose one of"), ("nothing", "", "Unknown image"), ("test:99999", "", "99999")],
)
def test_what_is_not_there_is_named(image: str, against: str, named: str, finished_study):
    with pytest.raises(StudyError, match=named):
        explain("best", image, against, finished_study.context)


def test_the_predicted_class_is_no_rival_of_itself(finished_study):
    page = explain("best", "test:12", "", finished_study.context)
    predicted = str(pd.read_csv(page.parent / "circuit.csv", dtype=str)["for"][0])

    with pytest.raises(StudyError, match="is what the network predicts: choose one of") as refusal:
        explain("best", "test:12", predicted, finished_study.context)

    assert len(str(refusal.value).splitlines()) == 1


@pytest.fixture(scope="module")
def typed(finished_study: Finished, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """`study explain` in a copy of the finished study with a run without weights; returns the sentence it ends with."""
    root = tmp_path_factory.mktemp("explain")
    home = copy_of(finished_study.context.home, root / "home")
    store, run = Store(home), finished_study.context.store.get(finished_study.retrained["cnn"])
    bare = store.start(
        run.dataset_key, "bare", tags=retrain_tags(best_trial(store, "digits", "cnn"), 0), params=run.params
    )
    (root / "notes.png").write_text("a shopping list\n")

    def refusal(*options: str) -> str:
        words = [option.format(bare=bare, folder=root) for option in options]
        before = contents(home.root)
        ended = study_here("explain", *words, home=home.root)
        assert ended.code == 2, ended
        assert_refused_or_done(ended, before, home.root)
        return ended.err

    return refusal


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--image", "train:99999"], r"There is no image train:99999: choose a number from 0 to \d+\."),
        (["--image", "test:-1"], r"There is no image test:-1: choose a number from 0 to \d+\."),
        (["--image", "3/9999"], r"There is no image 3/9999: choose a number from 0 to \d+\."),
        (["--image", "fish"], r"Unknown image 'fish': choose train:N, test:N, a class \(0, 1, 2, .*\), CLASS/N or"),
        (["--image", "{folder}"], r"Unknown image '.*': choose train:N"),
        (["--image", "{folder}/notes.png"], r"notes\.png cannot be read as an image \(.+\)\."),
        (["--against", "fish"], r"--against 'fish' is no class: choose one of (\d, ){8}\d\."),
        (
            ["--run", "{bare}"],
            r"Run bare \([0-9a-f]{32}\) is not finished \(running, 0 epochs' weights\): `study",
        ),
        (["--run", "nobody"], r"nobody"),
    ],
)
def test_bad_input_ends_with_exit_code_2_and_one_sentence_that_names_the_value_and_the_choices(
    options: list[str], named: str, typed: Callable[..., str]
):
    assert re.search(named, typed(*options))


def test_a_rival_that_is_the_predicted_class_ends_with_exit_code_2_and_the_other_classes(
    typed: Callable[..., str], finished_study: Finished
):
    page = explain("best", "test:12", "", finished_study.context)
    predicted = str(pd.read_csv(page.parent / "circuit.csv", dtype=str)["for"][0])

    sentence = typed("--image", "test:12", "--against", predicted)

    others = ", ".join(name for name in finished_study.dataset.classes if name != predicted)
    assert f"--against '{predicted}' is what the network predicts: choose one of {others}." in sentence


def test_the_faithfulness_is_measured_where_it_is_asked_for(finished_study, monkeypatch: pytest.MonkeyPatch):
    measured = []
    monkeypatch.setattr(faithfulness, "measure", lambda network, dataset, display: measured.append(network.run.id))
    page = explain("best", "test:12", "", finished_study.context)
    assert measured == []
    assert explain("best", "test:12", "", finished_study.context, faithful=True) == page
    assert measured == [finished_study.retrained["cnn"]]
