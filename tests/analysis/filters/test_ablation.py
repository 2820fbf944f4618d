import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import Rectangle
from sklearn.metrics import roc_auc_score

from analysis.filters.ablation import caption, draw_ablation, main_effects, points, show
from analysis.filters.effects import ablation_effects
from analysis.results.classification import softmax
from tests.support.legibility import problems, problems_on_screens

RNG = np.random.default_rng(0)
CLASSES = ["cat", "dog", "frog"]
LONG = [f"a class with a very long name, the {place}th of its {'kind' * 8}" for place in range(3)]
LABELS = np.repeat([0, 1, 2], [30, 20, 25])
LOGITS = (RNG.normal(size=(75, 3)) + 2 * np.eye(3)[LABELS]).astype(np.float32)
WITHOUT = {
    "conv1": LOGITS + RNG.normal(scale=0.5, size=(4, 75, 3)).astype(np.float32),
    "conv2": LOGITS + RNG.normal(scale=1.5, size=(6, 75, 3)).astype(np.float32),
}
WITHOUT["conv2"][[1, 4]] = LOGITS
TABLE = ablation_effects(LOGITS, WITHOUT, LABELS, CLASSES)
NOTHING = {layer: np.broadcast_to(LOGITS, changed.shape) for layer, changed in WITHOUT.items()}
NOTHING_LOST = "No class loses anything when any one filter's map is replaced by its mean over the test images."


def accuracy(logits: np.ndarray, label: int) -> float:
    return float((logits[label == LABELS].argmax(1) == label).mean())


def test_losses_are_differences_of_scikit_learns_auc_and_of_each_class_accuracy():
    assert len(TABLE) == (4 + 6) * 3
    for row in TABLE.to_dict("records"):
        label, changed = CLASSES.index(row["class"]), WITHOUT[row["layer"]][row["filter"]]
        whole, without = (roc_auc_score(label == LABELS, softmax(logits)[:, label]) for logits in (LOGITS, changed))
        assert (row["auc"], row["auc_lost"]) == pytest.approx((whole, whole - without), abs=1e-12)
        whole, without = accuracy(LOGITS, label), accuracy(changed, label)
        assert (row["accuracy"], row["accuracy_lost"]) == pytest.approx((whole, whole - without), abs=1e-12)
        assert row["logit_change"] == np.abs(changed - LOGITS)[:, label].max()
        assert row["images"] == (label == LABELS).sum()


def test_ties_count_half():
    table = ablation_effects(np.zeros((75, 3)), {"conv1": np.zeros((1, 75, 3))}, LABELS, CLASSES)
    assert table["auc"].to_numpy() == pytest.approx(0.5, abs=1e-12)


def test_a_class_without_test_images_is_undefined_and_so_is_the_auc_of_the_only_class():
    absent = ablation_effects(LOGITS, WITHOUT, np.minimum(LABELS, 1), CLASSES).set_index("class")
    assert absent.loc["frog", ["auc", "auc_lost", "accuracy", "accuracy_lost"]].isna().all(axis=None)
    assert absent.loc[["cat", "dog"]].notna().all(axis=None)
    single = ablation_effects(LOGITS, WITHOUT, np.zeros(75, int), CLASSES).set_index("class")
    assert single["auc_lost"].isna().all()
    assert single.loc["cat", "accuracy_lost"].notna().all()


def test_each_filter_that_works_has_the_class_that_loses_most_and_they_are_ordered_by_it():
    effects = main_effects(TABLE)
    assert sorted(effects.loc[effects["layer"] == "conv2", "filter"]) == [0, 2, 3, 5]
    for row in effects.to_dict("records"):
        part = TABLE[(TABLE["layer"] == row["layer"]) & (TABLE["filter"] == row["filter"])]
        assert row["lost"] == part["auc_lost"].max()
        assert row["class"] == part.loc[part["auc_lost"].idxmax(), "class"]
        assert row["mean_lost"] == pytest.approx(part["auc_lost"].mean())
    keys = [(row.layer, CLASSES.index(row[3]), -row.lost) for row in effects.itertuples()]
    assert keys == sorted(keys)


def test_the_caption_names_the_most_important_filters_and_the_most_dependent_class():
    means = TABLE.groupby(["layer", "filter"])["auc_lost"].mean()
    most = TABLE.loc[TABLE["auc_lost"].idxmax()]
    first, second, third = points(TABLE)
    assert f"In conv1 filter {means['conv1'].idxmax()} matters most" in first
    assert f"In conv2 filter {means['conv2'].idxmax()} matters most" in second
    assert second.endswith("; 2 of the 6 filters of conv2 change nothing.")
    assert "change nothing" not in first
    assert third.startswith("Of 8 filters without which a class loses, ")
    assert caption(TABLE).partition("; tied with ")[0].removesuffix(".") == (
        f"The class that depends most on one filter is {most['class']}: with the map of filter {most['filter']} of "
        f"{most['layer']} replaced by its mean over the test images its AUC goes from {most['auc']:.3f} to "
        f"{most['auc'] - most['auc_lost']:.3f}"
    )
    assert "its accuracy goes from" in caption(TABLE, "accuracy_lost")


def test_equal_filters_are_tied_however_much_each_of_them_matters():
    table = ablation_effects(LOGITS, {"conv1": np.stack([spoilt(1), spoilt(1), LOGITS])}, LABELS, CLASSES)
    assert "; tied with dog without filter 1 of conv1" in caption(table)
    assert points(table)[0].startswith("In conv1 filter 0 matters most, tied with filter 1: without it mean AUC goes")


def spoilt(label: int, images: int = 75) -> np.ndarray:
    """The logits with those of a class made random in the first `images` images."""
    changed = LOGITS.copy()
    changed[:images, label] = np.random.default_rng(0).normal(scale=3, size=images)
    return changed


def test_a_loss_that_leads_in_nearly_all_resamples_is_tied_with_none():
    table = ablation_effects(LOGITS, {"conv1": np.stack([LOGITS, spoilt(0), LOGITS])}, LABELS, CLASSES)
    assert caption(table).startswith("The class that depends most on one filter is cat: with the map of filter 1 of")
    assert points(table)[0].startswith("In conv1 filter 1 matters most: without it mean AUC goes")
    assert not any("tied" in text for text in [caption(table), *points(table)])
    assert points(table)[-1].startswith("Of 1 filter without which a class loses, 1 has a class that loses most in 95%")


def test_a_lead_that_rests_on_a_few_images_is_not_sure():
    """Each filter costs a class as much, but for one image."""
    without = np.stack([spoilt(0, 40), spoilt(0, 41)])
    table = ablation_effects(LOGITS, {"conv1": without}, LABELS, CLASSES)
    assert "; tied with cat without filter " in caption(table)


def test_how_often_a_loss_leads_is_what_resampled_images_give():
    """The oracle draws the images of each class anew, and compares each of a class with each of the others."""
    rng, members = np.random.default_rng(1), [np.flatnonzero(label == LABELS) for label in range(3)]
    networks = np.stack([softmax(logits) for logits in (LOGITS, *WITHOUT["conv1"], *WITHOUT["conv2"])])
    leaders = []
    for _ in range(500):
        drawn = [rng.choice(rows, len(rows)) for rows in members]
        aucs = np.empty((len(networks), 3))
        for label, rows in enumerate(drawn):
            others = np.concatenate([each for each in drawn if each is not rows])
            differences = networks[:, rows, label][:, :, None] - networks[:, others, label][:, None]
            aucs[:, label] = ((np.sign(differences) + 1) / 2).mean(axis=(1, 2))
        leaders.append((aucs[0] - aucs[1:]).argmax())
    expected = np.bincount(leaders, minlength=30) / 500
    np.testing.assert_allclose(TABLE["auc_lost_leads"], expected, atol=0.06)
    of_one_filter = TABLE.groupby(["layer", "filter"])["auc_lost_leads_classes"].sum()
    assert of_one_filter.to_numpy() == pytest.approx(1)
    of_one_layer = TABLE.drop_duplicates(["layer", "filter"]).groupby("layer")["auc_lost_leads_layer"].sum()
    assert of_one_layer.to_numpy() == pytest.approx(1)


def test_a_loss_that_rounding_hides_is_told():
    table = TABLE.assign(auc=1.0, auc_lost=TABLE["auc_lost"] * 1e-3)
    lost = table["auc_lost"].max()
    assert lost < 0.0005
    assert f"its AUC, 1.000, falls by {lost:.1g}" in caption(table)


def test_an_accuracy_that_rounding_hides_falls_by_points():
    labels = np.repeat([0, 1, 2], 2000)
    without = np.eye(3)[np.where(np.arange(6000) == 0, 1, labels)]
    table = ablation_effects(np.eye(3)[labels], {"conv1": without[None]}, labels, CLASSES)
    assert "mean accuracy, 100.0%, falls by 0.02 points" in points(table, "accuracy_lost")[0]


def test_filters_and_classes_that_lose_nothing_are_tied_with_none():
    labels = np.repeat([0, 1, 2], 100)
    # One of three filters costs one class a single image, of which a third of the resamples have none.
    without = np.stack([np.eye(3)[np.where(np.arange(300) == 0, 1, labels)], *[np.eye(3)[labels]] * 2])
    without[1:] *= 1.5
    table = ablation_effects(np.eye(3)[labels], {"conv1": without}, labels, CLASSES)
    assert "tied" not in caption(table, "accuracy_lost") + " ".join(points(table, "accuracy_lost"))
    assert "depends most on one filter is cat" in caption(table, "accuracy_lost")
    assert points(table, "accuracy_lost")[-1].startswith("Of 1 filter without which a class loses, 0 have a class that")


def test_the_caption_says_what_replaced_the_maps():
    table = ablation_effects(LOGITS, WITHOUT, LABELS, CLASSES, "zero")
    assert set(table["replaced_by"]) == {"zero"}
    assert " replaced by zero its AUC goes from " in caption(table)


@pytest.mark.parametrize("measure", ["auc_lost", "accuracy_lost"])
def test_cells_are_the_losses_times_100_on_one_scale_with_white_at_zero(measure: str):
    figure = draw_ablation(TABLE, measure=measure)
    effects = main_effects(TABLE, measure)
    largest = 100 * TABLE[measure].abs().max()
    shown = [ax for ax in figure.axes if ax.images]
    assert [ax.get_title(loc="left") for ax in shown] == ["conv1", "conv2"]
    for ax in shown:
        assert ax.images[0].get_clim() == (-largest, largest)
        numbers = [int(tick.get_text()) for tick in ax.get_xticklabels()]
        layer = ax.get_title(loc="left")
        assert numbers == effects.loc[effects["layer"] == layer, "filter"].tolist()
        part = TABLE[TABLE["layer"] == layer].pivot(index="class", columns="filter", values=measure)
        np.testing.assert_allclose(ax.images[0].get_array(), 100 * part.loc[CLASSES, numbers])
        assert [tick.get_text() for tick in ax.get_yticklabels()] == CLASSES
        below = [patch for patch in ax.patches if patch.get_zorder() < ax.images[0].get_zorder()]
        frames = [patch for patch in ax.patches if isinstance(patch, Rectangle) and not patch.get_fill()]
        assert (len(below), len(frames)) == (1, len(numbers))
    assert shown[1].get_xlabel() == "filter\n2 filters change nothing: 1, 4"
    assert (
        "replaced by its mean over the test images; each filter's largest loss is framed"
        in figure.get_suptitle().replace("\n", " ")
    )


def test_numbers_that_would_all_be_written_alike_are_left_to_the_colours():
    written = [len(draw_ablation(TABLE.assign(auc_lost=TABLE["auc_lost"] * shrunk), measure="auc_lost").axes[0].texts)
               for shrunk in (1, 1e-4)]  # fmt: skip
    assert written[0] > 0
    assert written[1] == 0


@pytest.mark.parametrize("measure", ["auc_lost", "accuracy_lost"])
def test_the_cells_without_a_number_are_explained_where_others_have_one(measure: str):
    *_, least = re.findall(r"by less than (\S+) on the colour scale", note_of(TABLE, measure))
    figure = draw_ablation(TABLE, measure=measure)
    values = np.concatenate([ax.images[0].get_array().ravel() for ax in figure.axes if ax.images])
    written = sum(bool(re.fullmatch(r"−?[\d.]+", text.get_text())) for ax in figure.axes for text in ax.texts)
    assert written == (np.abs(values) >= float(least) - 0.005).sum() < len(values)
    for changed in (TABLE[measure] * 1e-4, 0.0):
        assert "colour scale" not in note_of(TABLE.assign(**{measure: changed}), measure)


def note_of(table: pd.DataFrame, measure: str) -> str:
    return {exhibit.name: exhibit.note for exhibit in show(table)}[f"ablation_{measure}"]


def test_more_filters_than_fit_side_by_side_go_on_below():
    without = {"conv2": LOGITS + RNG.normal(size=(64, 75, 3)).astype(np.float32)}
    figure = draw_ablation(ablation_effects(LOGITS, without, LABELS, CLASSES), measure="auc_lost")
    shown = [ax for ax in figure.axes if ax.images]
    assert [ax.images[0].get_array().shape for ax in shown] == [(3, 32), (3, 32)]
    assert [ax.get_title(loc="left") for ax in shown] == ["conv2", "conv2, continued"]


def test_filters_that_change_logits_and_no_answer_are_listed_instead_of_drawn():
    slight = LOGITS + np.eye(3, dtype=np.float32)[LOGITS.argmax(axis=1)]
    table = ablation_effects(LOGITS, {"conv1": slight[None], "conv2": WITHOUT["conv2"]}, LABELS, CLASSES)
    assert main_effects(table, "accuracy_lost")["layer"].tolist().count("conv1") == 1
    first, second, *_ = draw_ablation(table, measure="accuracy_lost").axes
    assert (len(first.images), len(second.images)) == (0, 1)
    assert first.texts[0].get_text() == "no filter changes a class's accuracy"
    assert first.get_xlabel() == "filter\n1 filter changes no accuracy: 0"
    assert "no accuracy" not in second.get_xlabel()


def test_filters_that_no_class_loses_by_are_not_said_to_matter():
    helped = {"conv1": (LOGITS + 3 * np.eye(3)[LABELS])[None]}
    table = ablation_effects(LOGITS, helped, LABELS, CLASSES)
    assert (table["auc_lost"] < 0).all()
    assert caption(table) == NOTHING_LOST
    figure = draw_ablation(table, measure="auc_lost")
    assert all(patch.get_fill() for patch in figure.axes[0].patches)


def test_with_every_filter_dead_nothing_is_named_as_important():
    table = ablation_effects(LOGITS, NOTHING, LABELS, CLASSES)
    assert main_effects(table).empty
    assert caption(table) == NOTHING_LOST
    assert points(table) == [
        "4 of the 4 filters of conv1 change nothing.",
        "6 of the 6 filters of conv2 change nothing.",
    ]
    for exhibit, measure in zip(show(table), ("auc_lost", "accuracy_lost"), strict=True):
        assert (exhibit.text, exhibit.figure, exhibit.readable) == (NOTHING_LOST, None, None)
        pd.testing.assert_frame_equal(exhibit.tables[f"ablation_{measure}"], table)


def test_where_no_filter_matters_for_the_accuracy_a_sentence_stands_for_the_figure():
    slight = LOGITS + np.eye(3, dtype=np.float32)[LOGITS.argmax(axis=1)]
    of_auc, of_accuracy = show(ablation_effects(LOGITS, {"conv1": slight[None]}, LABELS, CLASSES))
    assert of_auc.figure is not None
    assert (of_accuracy.text, of_accuracy.figure) == (NOTHING_LOST, None)


def test_a_layer_without_cells_has_no_names_beside_them():
    table = TABLE.assign(auc_lost=TABLE["auc_lost"].where(TABLE["layer"] == "conv1", 0))
    figure = draw_ablation(table, measure="auc_lost")
    assert [len(ax.get_yticks()) for ax in figure.axes[:2]] == [len(CLASSES), 0]
    assert problems_on_screens(figure) == []


def test_undefined_classes_are_drawn_and_said_as_such():
    absent = ablation_effects(LOGITS, WITHOUT, np.minimum(LABELS, 1), CLASSES)
    figure = draw_ablation(absent, measure="auc_lost")
    figure.draw_without_rendering()
    texts = [text.get_text() for text in figure.axes[0].texts if "undefined" in text.get_text()]
    assert texts == ["undefined: no test image is of it"]
    assert np.ma.getmaskarray(figure.axes[0].images[0].get_array())[2].all()
    assert "frog" not in caption(absent)


def test_a_single_class_test_set_has_no_auc_to_lose_and_says_so():
    single = ablation_effects(LOGITS, WITHOUT, np.zeros(75, int), CLASSES)
    assert "undefined: that takes test images of two classes" in caption(single)
    assert "is cat: with the map" in caption(single, "accuracy_lost")
    for measure in ("auc_lost", "accuracy_lost"):
        figure = draw_ablation(single, measure=measure)
        figure.draw_without_rendering()
    figure = draw_ablation(single, measure="auc_lost")
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == [f"undefined: {why}" for why in ("all test images are of it", *["no test image is of it"] * 2)]


def test_long_class_names_are_cut_and_do_not_push_the_cells_out():
    figure = draw_ablation(ablation_effects(LOGITS, WITHOUT, LABELS, LONG), measure="auc_lost")
    figure.draw_without_rendering()
    assert figure.axes[0].get_position().width > 0.55


def test_numbers_beside_long_class_names_stay_in_their_cells():
    without = {"conv1": LOGITS + RNG.normal(scale=2, size=(32, 75, 3)).astype(np.float32)}
    figure = draw_ablation(ablation_effects(LOGITS, without, LABELS, LONG), measure="accuracy_lost")
    assert problems(figure) == []


def test_many_classes_are_drawn_without_numbers_in_the_cells():
    logits = RNG.normal(size=(80, 40))
    table = ablation_effects(
        logits, {"conv1": logits + RNG.normal(size=(3, 80, 40))}, np.arange(80) % 40, [f"class {n}" for n in range(40)]
    )
    figure = draw_ablation(table, measure="auc_lost")
    figure.draw_without_rendering()
    assert not figure.axes[0].texts
    assert isinstance(table, pd.DataFrame)


def test_negative_numbers_do_not_run_into_those_beside_them():
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    keys = pd.MultiIndex.from_product([["conv1"], range(32), names], names=["layer", "filter", "class"])
    lost = RNG.choice([-0.027, -0.112, 0.14, 0.0], len(keys))
    shares = [f"accuracy_lost_leads{of}" for of in ("", "_layer", "_classes")]
    table = keys.to_frame(index=False).assign(
        accuracy=0.7,
        accuracy_lost=lost,
        logit_change=1.0,
        images=1000,
        replaced_by="mean",
        **dict.fromkeys(shares, 0.5),
    )
    figure = draw_ablation(table, measure="accuracy_lost")
    figure.draw_without_rendering()
    axes = [ax for ax in figure.axes if ax.images]
    assert [ax.images[0].get_array().shape for ax in axes] == [(10, 16), (10, 16)]
    widest = max(text.get_window_extent().width for ax in axes for text in ax.texts)
    assert widest < 0.85 * axes[0].get_window_extent().width / 16
    assert problems_on_screens(figure) == []
