import numpy as np
import pytest
from scipy import stats

from analysis.results import proportions as p

Made = tuple[np.ndarray, np.ndarray]


def right(chosen: list[int], labels: list[int]) -> Made:
    return np.eye(2)[chosen], np.array(labels)


def test_wilsons_interval_agrees_with_its_formula_and_is_undefined_without_images():
    low, high = p.wilson([3, 0, 5], [10, 0, 5])
    z = stats.norm.ppf(0.975)
    middle, reach = (0.3 + z**2 / 20) / (1 + z**2 / 10), z * np.sqrt(0.3 * 0.7 / 10 + z**2 / 400) / (1 + z**2 / 10)
    assert (low[0], high[0]) == pytest.approx((middle - reach, middle + reach))
    assert np.isnan([low[1], high[1]]).all()
    assert high[2] == 1
    assert p.wilson([], []).shape == (2, 0)


def test_bonett_and_prices_interval_is_walds_of_one_image_more_on_either_side():
    """Wald's as the mean of the differences, image by image, and its standard error."""
    apart = np.array([1] * 5 + [-1] * 2 + [0] * 55)
    reach = stats.norm.ppf(0.975) * apart.std() / np.sqrt(len(apart))
    assert p.bonett_price(4, 1, 60) == pytest.approx((apart.mean() - reach, apart.mean() + reach))
    assert p.bonett_price(1, 4, 60) == pytest.approx((-apart.mean() - reach, -apart.mean() + reach))
    assert np.isnan(p.bonett_price(0, 0, 0)).all()
    assert p.bonett_price(1, 0, 1)[1] == 1


@pytest.mark.parametrize(("first", "second"), [(0.01, 0.0), (0.03, 0.01), (0.2, 0.1)])
def test_bonett_and_prices_interval_holds_the_difference_as_often_as_it_says(first: float, second: float):
    """As often, or nearly, for 360 images, where percentiles of a bootstrap fall far behind if few images differ."""
    draws = np.random.default_rng(0).multinomial(360, [first, second, 1 - first - second], size=2000)
    bounds = np.array([p.bonett_price(int(only), int(also), 360) for only, also, _ in draws])
    assert ((bounds[:, 0] <= first - second) & (first - second <= bounds[:, 1])).mean() > 0.94


def pair(only_first: int, only_second: int) -> dict[str, Made]:
    """Two models that are both right on 7 images and both wrong on 2, and disagree as often as asked."""
    labels = [0] * (9 + only_first + only_second)
    first = [0] * 7 + [1] * 2 + [0] * only_first + [1] * only_second
    second = [0] * 7 + [1] * 2 + [1] * only_first + [0] * only_second
    return {"cnn": right(first, labels), "ffnn": right(second, labels)}


def test_mcnemar_counts_every_image_once():
    row = p.mcnemar(pair(4, 1)).iloc[0]
    assert row[["both_right", "only_model_right", "only_other_right", "neither_right"]].tolist() == [7, 4, 1, 2]
    assert (row["model"], row["other"], row["images"]) == ("cnn", "ffnn", 14)


@pytest.mark.parametrize(("first", "second"), [(4, 1), (0, 6), (12, 12), (20, 4)])
def test_with_few_discordant_images_mcnemar_is_the_exact_binomial_test(first: int, second: int):
    row = p.mcnemar(pair(first, second)).iloc[0]
    assert row["variant"] == "exact binomial"
    below = stats.binom.cdf(min(first, second), first + second, 0.5)
    assert row["p_value"] == pytest.approx(min(1, 2 * below))
    assert np.isnan(row["statistic"])


@pytest.mark.parametrize(("first", "second"), [(20, 5), (300, 250), (13, 13)])
def test_with_many_mcnemar_is_chi_squared_with_continuity_correction(first: int, second: int):
    """As scipy's corrected test of goodness of fit to half and half."""
    row = p.mcnemar(pair(first, second)).iloc[0]
    half = (first + second) / 2
    corrected = [half + np.sign(count - half) * max(abs(count - half) - 0.5, 0) for count in (first, second)]
    expected = stats.chisquare(corrected)
    assert row["variant"] == "chi-squared, continuity-corrected"
    assert (row["statistic"], row["p_value"]) == pytest.approx((expected.statistic, expected.pvalue))


def test_models_that_never_disagree_do_not_differ():
    row = p.mcnemar(pair(0, 0)).iloc[0]
    assert (row["p_value"], row["variant"]) == (1, "exact binomial")


def test_mcnemars_table_names_the_models():
    [row] = p.mcnemar_readable(p.mcnemar(pair(4, 1))).to_dict("records")
    assert (row["test images"], row["only CNN right"], row["only FFNN right"], row["p"]) == (14, 4, 1, "0.375")


def test_mcnemars_table_has_a_statistic_only_where_there_is_one():
    exact, approximate = (p.mcnemar_readable(p.mcnemar(pair(*counts))) for counts in ((4, 1), (300, 100)))
    assert list(approximate.columns) == [*exact.columns[:-1], "χ²", "p"]
    assert approximate["p"].item() == "< 0.001"


def test_the_caption_of_mcnemar_says_what_was_found():
    assert p.mcnemar_caption(p.mcnemar(pair(4, 1))) == (
        "Of 14 images CNN alone is right on 4 and FFNN alone on 1 (McNemar's test, exact binomial: p = 0.375): no "
        "difference is shown."
    )
    text = p.mcnemar_caption(p.mcnemar(pair(300, 100)))
    assert text.endswith("chi-squared, continuity-corrected: χ² = 99.0, p < 0.001): the models differ.")
