import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from analysis.results import bootstrap
from analysis.results import intervals as s
from analysis.results.classification import MEASURES, REPORT_TABLE_2, metrics_table
from analysis.results.kinds import GROUPS
from analysis.results.proportions import bonett_price, wilson

CIFAR10_CLASSES = tuple(sorted(name for names in GROUPS.values() for name in names))

Made = tuple[np.ndarray, np.ndarray]


def made(strength: float, images: int = 200, classes: int = 3, seed: int = 0) -> Made:
    labels = np.random.default_rng(9).integers(0, classes, images)
    noise = np.random.default_rng(seed).normal(size=(images, classes))
    return noise + strength * np.eye(classes)[labels], labels


BOTH = {("cnn", "test"): made(1.5), ("ffnn", "test"): made(0.8, seed=1)}


@pytest.mark.slow
def test_resampling_counts_has_the_distribution_of_resampling_images():
    """The oracle draws images with replacement and asks scikit-learn."""
    logits, labels = BOTH["cnn", "test"]
    rng, chosen, expected = np.random.default_rng(1), logits.argmax(axis=1), []
    for _ in range(400):
        drawn = rng.integers(0, len(labels), len(labels))
        pair = labels[drawn], chosen[drawn]
        weighted = metrics.precision_recall_fscore_support(*pair, average="weighted", zero_division=0)[:3]
        expected.append([metrics.accuracy_score(*pair), *weighted, metrics.balanced_accuracy_score(*pair)])
    ours = bootstrap.bootstrap(BOTH, resamples=4000)["cnn", "test"]
    np.testing.assert_allclose(ours.mean(axis=0), np.mean(expected, axis=0), atol=0.005)
    np.testing.assert_allclose(ours.std(axis=0), np.std(expected, axis=0), rtol=0.1)
    for tail in (0.025, 0.975):
        np.testing.assert_allclose(np.quantile(ours, tail, axis=0), np.quantile(expected, tail, axis=0), atol=0.012)


def test_the_same_seed_gives_the_same_intervals_and_another_gives_others():
    pd.testing.assert_frame_equal(s.intervals(BOTH, resamples=100), s.intervals(BOTH, resamples=100))
    other = s.intervals(BOTH, resamples=100, seed=1)
    assert not other["low"].equals(s.intervals(BOTH, resamples=100)["low"])


def test_drawing_in_small_parts_changes_nothing(monkeypatch: pytest.MonkeyPatch):
    whole = bootstrap.bootstrap(BOTH, resamples=50)
    monkeypatch.setattr(bootstrap, "DRAWN_AT_ONCE", 100)
    for key, values in bootstrap.bootstrap(BOTH, resamples=50).items():
        np.testing.assert_array_equal(values, whole[key])


def test_models_are_resampled_together_so_that_equal_ones_never_differ():
    twice = {("cnn", "test"): made(1.0), ("ffnn", "test"): made(1.0)}
    values = bootstrap.bootstrap(twice, resamples=50)
    np.testing.assert_array_equal(values["cnn", "test"], values["ffnn", "test"])
    table = s.intervals(twice, resamples=50)
    difference = table[table["minus"] == "ffnn"].set_index("measure")
    assert (difference["value"] == 0).all()
    assert difference.loc[["precision", "f1"], ["low", "high"]].isna().all(axis=None)
    assert (difference.loc[s.SHARES, "low"] == -difference.loc[s.SHARES, "high"]).all()
    assert (difference.loc[s.SHARES, "high"] > 0).all()


def test_shares_have_wilsons_interval_and_their_difference_that_of_bonett_and_price():
    rows = s.intervals(BOTH, resamples=300).set_index(["model", "minus", "measure"])
    hits = {name: logits.argmax(axis=1) == labels for (name, _), (logits, labels) in BOTH.items()}
    only, also = (int((hits[model] & ~hits[other]).sum()) for model, other in (("cnn", "ffnn"), ("ffnn", "cnn")))
    for measure in ("accuracy", "recall"):
        expected = wilson([int(hits["cnn"].sum())], [200])[:, 0]
        np.testing.assert_array_equal(rows.loc[("cnn", "", measure), ["low", "high"]].to_numpy(float), expected)
        apart = rows.loc["cnn", "ffnn", measure]
        assert (apart["low"], apart["high"]) == bonett_price(only, also, 200)
        assert (apart["discordant"], apart["images"]) == (only + also, 200)
    own = rows.xs("", level="minus")
    assert own[["discordant", "p_value"]].isna().all(axis=None)


def test_the_paired_difference_is_surer_than_the_two_models():
    """They share the images that are hard for both: the variances of independent draws would add up."""
    base = made(1.0, 500)
    near = base[0] + 0.3 * np.random.default_rng(2).normal(size=base[0].shape)
    values = bootstrap.bootstrap({("cnn", "test"): base, ("ffnn", "test"): (near, base[1])})
    first, second = values["cnn", "test"][:, 0], values["ffnn", "test"][:, 0]
    assert (first - second).std() < 0.8 * np.hypot(first.std(), second.std())


def test_models_that_saw_other_images_are_refused():
    logits, labels = made(1.0)
    with pytest.raises(ValueError, match="not given the same test images"):
        bootstrap.bootstrap({("cnn", "test"): (logits, labels), ("ffnn", "test"): (logits, labels[::-1])})


def test_intervals_hold_the_values_of_the_metrics_table():
    predictions = {**BOTH, ("cnn", "train"): made(2.0, 300), ("ffnn", "train"): made(1.0, 300)}
    table = s.intervals(predictions, resamples=300)
    assert list(table) == s.INTERVAL_COLUMNS
    own = table[table["minus"] == ""]
    expected = metrics_table(predictions)
    np.testing.assert_array_equal(own["value"].to_numpy().reshape(-1, 5), expected[MEASURES].to_numpy())
    assert own.groupby("split")["images"].first().to_dict() == {"test": 200, "train": 300}
    assert (table["low"] < table["high"]).all()
    assert ((own["low"] <= own["value"]) & (own["value"] <= own["high"])).all()
    differences = table[table["minus"] == "ffnn"]
    assert differences["split"].unique().tolist() == ["test", "train"]
    accuracy = expected.set_index(["model", "split"])["accuracy"]
    lead = accuracy["cnn", "test"] - accuracy["ffnn", "test"]
    assert differences["value"].iloc[0] == pytest.approx(lead)


def test_the_reports_numbers_and_their_differences_stand_beside_ours():
    table = s.measured(BOTH, CIFAR10_CLASSES, of_cifar10=True).set_index(["minus", "model", "measure"])["report"]
    report = REPORT_TABLE_2.set_index(["model", "split"])
    assert table["", "cnn", "f1"] == report.loc[("cnn", "test"), "f1"]
    assert table["ffnn", "cnn", "accuracy"] == pytest.approx(0.710 - 0.520)
    other = s.measured({("cnn", "validation"): made(1.0)}, CIFAR10_CLASSES, of_cifar10=True)
    assert other["report"].isna().all()


def test_the_baseline_is_the_class_that_is_most_frequent_in_training():
    logits, labels = np.zeros((4, 2)), {"train": np.array([0, 0, 0, 1]), "test": np.array([0, 1, 1, 1])}
    table = s.measured({("cnn", split): (logits, labels[split]) for split in labels}, ["a", "b"], of_cifar10=False)
    assert table.groupby("split")["largest_class"].first().to_dict() == {"train": 0.75, "test": 0.25}


@pytest.mark.parametrize(
    ("numbers", "signed", "expected"),
    [
        ([0.7014, 0.692, 0.7096], False, "0.701 (0.692–0.710)"),
        ([0.5], False, "0.500"),
        ([0.2, 0.19, 0.21], True, "+0.200 (0.190–0.210)"),
        ([-0.01, -0.02, 0.004], True, "−0.010 (−0.020 to 0.004)"),
        ([np.nan, np.nan, np.nan], False, "undefined"),
        ([1.0, np.nan, np.nan], False, "1.000"),
    ],
)
def test_numbers_are_readable(numbers: list[float], signed: bool, expected: str):
    assert s.readable(numbers, signed=signed) == expected
