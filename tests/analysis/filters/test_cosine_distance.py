import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cosine

from analysis.drawing.style import COLLAPSED
from analysis.filters.cosine_distance import SETTLED, kernel_convergence, settled_epochs, spread

RNG = np.random.default_rng(0)
FILTERS = 6


def walk(epochs: int, *, shape: tuple[int, ...] = (3, 5, 5), rest: int | None = None) -> dict[int, np.ndarray]:
    """Weights that walk at random, and stay where they are from the epoch `rest` on."""
    weights = {0: RNG.normal(size=(FILTERS, *shape)).astype(np.float32)}
    for epoch in range(1, epochs):
        moved = weights[epoch - 1] + RNG.normal(size=(FILTERS, *shape), scale=0.5).astype(np.float32)
        weights[epoch] = moved if rest is None or epoch <= rest else weights[rest]
    return weights


def health(silent: np.ndarray, layer: str = "conv1") -> pd.DataFrame:
    """The silences (filters, epochs) as a table."""
    filters, epochs = np.indices(silent.shape).reshape(2, -1)
    return pd.DataFrame({"layer": layer, "filter": filters, "epoch": epochs, "silent": silent.ravel()})


def nothing_silent(epochs: int) -> pd.DataFrame:
    return health(np.zeros((FILTERS, epochs), bool))


def test_distances_are_those_of_scipy_and_norms_those_of_numpy():
    weights = walk(4)
    table = kernel_convergence({"conv1": weights}, nothing_silent(4))
    assert len(table) == FILTERS * 4
    for row in table.itertuples():
        here = weights[row.epoch][row.filter].ravel().astype(float)
        assert row.norm == pytest.approx(np.linalg.norm(here))
        assert row.to_final == pytest.approx(cosine(here, weights[3][row.filter].ravel().astype(float)), abs=1e-12)
        if row.epoch:
            before = weights[row.epoch - 1][row.filter].ravel().astype(float)
            assert row.step == pytest.approx(cosine(here, before))
        else:
            assert np.isnan(row.step)


def test_a_filter_settles_where_its_distance_stays_within_the_threshold():
    end = np.array([1.0, 0.0])
    far = np.array([0.0, 1.0])
    weights = {epoch: np.stack([end, far if epoch < 2 else end, far if epoch == 2 else end]) for epoch in range(5)}
    table = kernel_convergence({"fc": weights}, nothing_silent(5))
    for settled in SETTLED:
        assert settled_epochs(table, settled).tolist() == [0, 2, 3]


def test_the_wider_threshold_is_met_earlier():
    end, near, far = (np.array([np.cos(angle), np.sin(angle)]) for angle in (0.0, 0.4, 1.0))
    weights = dict(enumerate(values[None] for values in (far, near, near, end)))
    table = kernel_convergence({"fc": weights}, nothing_silent(4))
    assert [settled_epochs(table, settled).item() for settled in SETTLED] == [3, 1]


def test_dead_filters_are_undefined_and_not_converged():
    weights = walk(4)
    for epoch in (2, 3):
        weights[epoch][0] *= COLLAPSED * 1e-3  # the direction stays the same
    silent = np.zeros((FILTERS, 4), bool)
    silent[1, 2:] = True
    silent[2, 1] = True
    table = kernel_convergence({"conv1": weights}, health(silent)).set_index(["filter", "epoch"])
    assert table.loc[[0, 1], "to_final"].isna().all()
    assert table.loc[[0, 1], SETTLED].isna().all(axis=None)
    assert table.loc[0, "step"].notna().tolist() == table.loc[1, "step"].notna().tolist() == [False, True, False, False]
    assert table.loc[2, "alive"].tolist() == [True, False, True, True]
    assert table.loc[2, "to_final"].notna().tolist() == [True, False, True, True]
    assert table.loc[2, "step"].notna().tolist() == [False, False, False, True]
    assert table["norm"].notna().all()
    assert settled_epochs(table.reset_index()).index.tolist() == [2, 3, 4, 5]


def test_a_layer_without_a_relu_is_never_silent():
    table = kernel_convergence({"conv1": walk(2), "fc": walk(2, shape=(8,))}, health(np.ones((FILTERS, 2), bool)))
    assert table.groupby("layer")["alive"].all().to_dict() == {"conv1": False, "fc": True}
    assert table["layer"].unique().tolist() == ["conv1", "fc"]


def test_the_step_over_an_epoch_that_was_not_kept_is_undefined():
    weights = walk(5)
    del weights[2]
    table = kernel_convergence({"conv1": weights}, nothing_silent(5))
    assert table.groupby("epoch")["step"].count().to_dict() == {0: 0, 1: FILTERS, 3: 0, 4: FILTERS}


def test_the_spread_is_that_of_numpys_quantiles_over_the_living():
    silent = np.zeros((FILTERS, 4), bool)
    silent[0, 3] = True
    table = kernel_convergence({"conv1": walk(4)}, health(silent))
    norms = table[(table["epoch"] == 1) & (table["filter"] > 0)]["norm"]
    row = spread(table, "norm").set_index("epoch").loc[1]
    assert row[["low", "median", "high"]].tolist() == pytest.approx(np.quantile(norms, [0.1, 0.5, 0.9]).tolist())
    assert spread(table, "step")["epoch"].tolist() == [1, 2, 3]


def test_filters_that_are_compared_block_by_block_give_the_same_table(monkeypatch: pytest.MonkeyPatch):
    weights, silent = walk(4), RNG.random((FILTERS, 4)) < 0.3
    whole = kernel_convergence({"conv1": weights}, health(silent))
    for block in (1, 4 * 75 * 2):
        monkeypatch.setattr("analysis.filters.cosine_distance.BLOCK", block)
        pd.testing.assert_frame_equal(kernel_convergence({"conv1": weights}, health(silent)), whole)
