import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import study
from study.architectures import CNNConfig
from study.config import TrainConfig
from study.errors import Diverged, StudyError
from study.models import CNN, FFNN
from study.training import Epoch, evaluate
from tests.conftest import Finished


def test_the_names_are_imported_at_their_first_use():
    code = "import sys, study; assert 'torch' not in sys.modules; study.train; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert set(study.__all__) <= set(dir(study))
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = study.trian  # type: ignore[attr-defined]


def test_a_model_has_the_report_s_settings_or_those_given():
    assert sum(weights.numel() for weights in study.build_model().parameters()) == 94_666
    small = study.build_model("cnn", classes=3, filters=(4, 6))
    assert isinstance(small, CNN)
    assert (small.conv2.out_channels, small.fc.out_features) == (6, 3)
    hidden = study.build_model("ffnn", hidden=7)
    assert isinstance(hidden, FFNN)
    assert hidden.fc1.out_features == 7
    wide = study.build_model("three_layers", width=31)
    assert sum(weights.numel() for weights in wide.parameters()) == 89_011


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("cnn", {"kernel": "5"}, ("{'kernel': '5'}", "it takes filters, kernel")),
        ("cnn", {"filters": 8}, ("{'filters': 8}",)),
        ("ffnn", {"width": 8}, ("'width'", "it takes hidden")),
        ("three_layers", {"width": 2.7}, ("width is 2.7", "a whole number")),
        ("three_layers", {"width": "8:64"}, ("width is '8:64'", "a whole number")),
        ("three_layers", {"depth": 2}, ("'depth'", "width")),
    ],
)
def test_settings_that_a_model_cannot_have_are_named(name: str, settings: dict[str, Any], words: tuple[str, ...]):
    with pytest.raises(StudyError) as raised:
        study.build_model(name, **settings)
    assert all(word in str(raised.value) for word in words), raised.value


def test_the_seed_draws_the_weights():
    first, again, other = (study.build_model("ffnn", hidden=2, seed=seed).fc1.weight for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_an_unknown_model_names_the_choices():
    with pytest.raises(StudyError, match=r"'rnn'.*cnn, ffnn"):
        study.build_model("rnn")


def test_training_learns_and_keeps_the_weights_of_each_epoch(tmp_path: Path):
    digits = study.load_dataset("digits", home=tmp_path)
    seen = list[int]()

    def count(epoch: Epoch) -> None:
        seen.append(epoch.number)

    settings = {"learning_rate": 2e-3, "epochs": 2}
    trained = study.train(
        study.build_model("ffnn", hidden=30), digits, device="cpu", threads=1, on_epoch=count, **settings
    )
    assert seen == list(trained.history["epoch"]) == [0, 1, 2]
    assert trained.history["val_accuracy"].iloc[-1] > 0.7
    assert len(trained.weights) == 3
    assert not torch.equal(trained.weights[0]["fc1.weight"], trained.weights[1]["fc1.weight"])
    last = trained.model.state_dict()
    assert all(torch.equal(last[name].cpu(), kept) for name, kept in trained.weights[-1].items())
    # The validation images are held out, as in a search.
    assert trained.history["val_accuracy"].iloc[-1] == evaluate(trained.model, digits.splits.validation)[1]


def test_a_module_of_one_s_own_is_trained(tmp_path: Path):
    digits = study.load_dataset("digits", home=tmp_path)
    linear = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 10))
    trained = study.train(linear, digits, device="cpu", threads=1, epochs=1)
    assert trained.history["val_accuracy"].iloc[-1] > 0.7


def test_a_training_that_diverges_says_so(tmp_path: Path):
    with pytest.raises(Diverged):
        study.train(
            study.build_model("ffnn", hidden=50),
            study.load_dataset("digits", home=tmp_path),
            device="cpu",
            threads=1,
            epochs=1,
            learning_rate=1e38,
        )


def test_predictions_are_logits_of_bytes(tmp_path: Path):
    model = study.build_model("cnn", filters=(2, 2))
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), dtype=np.uint8)
    logits = study.predict(model, images)
    assert (logits.shape, logits.dtype) == ((5, 10), np.float32)
    with torch.no_grad():
        expected = model(torch.from_numpy(images).float() / 127.5 - 1)
    np.testing.assert_allclose(logits, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (np.zeros((5, 3, 32, 32)), r"float64 of shape \(5, 3, 32, 32\)"),
        (np.zeros((5, 32, 32, 3), np.uint8), r"uint8 of shape \(5, 32, 32, 3\)"),
        (np.zeros((3, 32, 32), np.uint8), r"uint8 of shape \(3, 32, 32\)"),
    ],
)
def test_other_images_are_refused(images: np.ndarray, said: str):
    with pytest.raises(StudyError, match=said):
        study.predict(study.build_model(), images)


def test_a_recorded_network_is_that_of_its_run(finished_study: Finished):
    home, run_id = finished_study.context.home.root, finished_study.retrained["cnn"]
    for name in ("cnn", run_id, run_id[:12]):
        recorded = study.best(name, home=home)
        assert recorded.run.id == run_id
    assert recorded.epochs == [0, 1, 2]
    assert isinstance(recorded.config, TrainConfig)
    assert recorded.config.model == CNNConfig(filters=(4, 6))
    assert recorded.classes == finished_study.dataset.classes
    assert list(recorded.history["epoch"]) == [0, 1, 2]
    assert torch.equal(recorded.weights()["conv1.weight"], recorded.weights(2)["conv1.weight"])
    assert not torch.equal(recorded.weights(0)["conv1.weight"], recorded.weights(2)["conv1.weight"])
    logits, labels = recorded.predictions()
    test = finished_study.dataset.test
    np.testing.assert_allclose(study.predict(recorded.model(), test.images), logits, atol=1e-5)
    assert np.array_equal(labels, test.labels)


def test_the_home_is_that_of_the_command(finished_study: Finished, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STUDY_HOME", str(finished_study.context.home.root))
    assert study.best("ffnn", dataset=finished_study.dataset.key).run.id == finished_study.retrained["ffnn"]
    source = finished_study.dataset.config.dataset
    assert study.best("ffnn", dataset=source).run.id == finished_study.retrained["ffnn"]
    with pytest.raises(StudyError, match="'dreams'"):
        study.best("ffnn", dataset="dreams")


def test_weights_of_another_epoch_name_the_choices(finished_study: Finished):
    recorded = study.best("cnn", home=finished_study.context.home.root)
    with pytest.raises(StudyError, match=r"no weights of epoch 3: choose one of 0 to 2\."):
        recorded.weights(3)


def test_an_unknown_run_names_the_choices(finished_study: Finished):
    with pytest.raises(StudyError, match=r"Unknown run 'cnnn'"):
        study.best("cnnn", home=finished_study.context.home.root)


def test_another_home_has_another_store_whatever_was_opened_before(finished_study: Finished, tmp_path: Path):
    study.best("cnn", home=finished_study.context.home.root)
    with pytest.raises(StudyError, match="Nothing was retrained yet"):
        study.best("cnn", home=tmp_path)
