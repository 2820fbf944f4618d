from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import bootstrap, spearmanr
from torch import Tensor, nn

from study.architectures import CNNConfig
from study.models import CNN, build_model
from study.probes import faithfulness
from study.probes.attributions import METHODS, Method, input_x_gradient
from study.probes.faithfulness import (
    CONTROLS,
    INFILLS,
    OTHER,
    agreement,
    cell_sums,
    control_maps,
    drops,
    explained_pair,
    infills,
    insertion_minus_deletion,
    measure,
    parts,
    randomised,
    rank_correlation,
)
from study.probes.margins import pair_of
from study.probes.twin import twin

GENERATOR = torch.Generator().manual_seed(0)
IMAGES = (torch.rand(12, 3, 32, 32, generator=GENERATOR) * 2 - 1).contiguous()
FEW = {"input_x_gradient": METHODS["input_x_gradient"], "saliency": METHODS["saliency"]}


def network(sharp: float = 20.0) -> CNN:
    model = build_model(CNNConfig(filters=(4, 6)), classes=4, seed=0)
    assert isinstance(model, CNN)
    with torch.no_grad():
        model.fc.weight.mul_(sharp)  # so that probabilities change
    return model.eval()


def test_the_parts_are_49_squares_and_sets_of_fixed_sizes():
    masks, groups = parts()
    assert masks.shape == (49 + 60, 64)
    assert [masks[groups == group].sum(1).unique().tolist() for group in range(4)] == [[4], [8], [16], [32]]
    covered = masks[groups == 0].sum(0).view(8, 8)
    assert covered.max() == 4
    assert covered[0, 0] == 1
    assert len(masks.unique(dim=0)) == len(masks)


def test_cell_sums_sum_to_the_map():
    sums = cell_sums(IMAGES[:, 0])
    assert sums[:, 9] == pytest.approx(IMAGES[:, 0, 4:8, 4:8].sum((1, 2)).numpy(), abs=1e-4)
    assert sums.sum(1) == pytest.approx(IMAGES[:, 0].sum((1, 2)).numpy(), abs=1e-3)


def test_cell_sums_of_another_size_sum_to_the_map():
    maps = torch.rand(2, 20, 20, generator=torch.Generator().manual_seed(1))
    sums = cell_sums(maps)
    assert sums.shape == (2, 64)
    assert sums[:, 0] == pytest.approx(maps[:, :3, :3].sum((1, 2)).numpy(), abs=1e-5)
    assert sums.sum(1) == pytest.approx(maps.sum((1, 2)).numpy(), abs=1e-4)


def test_images_of_another_size_are_measured(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(faithfulness, "METHODS", FEW)
    images = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1
    model = build_model(CNNConfig(filters=(4, 6)), classes=4, seed=0, side=48)
    scores, checks = measure(model, images, images, checked=1)
    assert set(scores["method"]) == {*FEW, *CONTROLS}
    assert np.isfinite(scores[["squares", "sets", "insertion_deletion"]]).all(axis=None)
    assert len(checks) > 0


def test_on_a_linear_network_input_times_gradient_is_the_measured_drop():
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3072, 4))
    masks, groups = parts()
    for image in IMAGES[:3]:
        pair = pair_of(1, 2)
        sums = cell_sums(input_x_gradient(linear, image[None], pair, IMAGES))
        grey = infills(image, IMAGES[0])["grey"]
        squares, sets = agreement(sums, drops(linear, image, grey, pair, masks), masks, groups)
        assert min(squares[0], sets[0]) > 0.99


@pytest.mark.parametrize("sign", [lambda maps: maps, torch.abs], ids=["signed", "positive"])
def test_random_maps_are_within_their_interval_of_zero(sign: Callable[[Tensor], Tensor]):
    """Over sets of mixed sizes positive maps would agree with the drops: both are larger for a larger set."""
    masks, groups = parts()
    model = twin(network())
    values = []
    for number, image in enumerate(IMAGES):
        (pair, _) = explained_pair(model(image[None])[0])
        measured = drops(model, image, torch.zeros_like(image), pair, masks)
        random = torch.stack([control_maps(image, 100 * number + seed)["random"] for seed in range(20)])
        values.append(np.mean(agreement(cell_sums(sign(random)), measured, masks, groups)))
    low, high = bootstrap((values,), np.mean, method="percentile", rng=0).confidence_interval
    assert low < 0 < high
    assert high - low < 0.1


def test_blurring_a_map_hardly_moves_its_score():
    model = twin(network())
    kernel = torch.ones(1, 1, 3, 3) / 9
    moved = []
    for image in IMAGES:
        (pair, _) = explained_pair(model(image[None])[0])
        sharp = input_x_gradient(model, image[None], pair, IMAGES)
        soft = nn.functional.conv2d(sharp[None], kernel, padding=1)[0]
        sums = cell_sums(torch.cat([sharp, soft]))
        for infill in infills(image, IMAGES[0]).values():
            scores = insertion_minus_deletion(model, image, infill, int(pair[0]), sums)
            moved.append((scores[1] - scores[0]).item())
    assert abs(np.mean(moved)) < 0.03
    assert np.ptp(moved) > 0


def test_insertion_minus_deletion_is_that_of_the_curves_by_hand():
    model, image, infill = twin(network()), IMAGES[0], torch.zeros(3, 32, 32)
    sums = torch.randn(1, 64, generator=torch.Generator().manual_seed(3))
    order = sums[0].argsort(descending=True)
    gap = []
    for count in range(0, 65, 4):
        first = torch.zeros(64).index_fill(0, order[:count], 1.0).view(8, 8)
        first = first.repeat_interleave(4, 0).repeat_interleave(4, 1)
        put_in, taken_out = image * first, image * (1 - first)
        probabilities = model(torch.stack([put_in, taken_out])).softmax(1)[:, 2]
        gap.append((probabilities[0] - probabilities[1]).item())
    measured = insertion_minus_deletion(model, image, infill, 2, sums)
    assert measured.item() == pytest.approx(np.mean(gap), abs=1e-6)


def test_layers_become_random_from_the_last_on_and_the_model_stays():
    model = network()
    before = [parameter.clone() for parameter in model.parameters()]
    stages = list(randomised(model))
    assert [name for name, _ in stages] == ["fc", "conv2", "conv1"]
    same = [[name for name in ("conv1", "conv2", "fc") if torch.equal(getattr(stage, name).weight,
                                                                      getattr(model, name).weight)]
            for _, stage in stages]  # fmt: skip
    assert same == [["conv1", "conv2"], ["conv1"], []]
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_rank_correlation_is_spearmans_and_0_for_a_constant_map():
    a, b = IMAGES[0, 0], IMAGES[1, 1] + IMAGES[0, 0]
    assert rank_correlation(a, b) == pytest.approx(spearmanr(a.flatten(), b.flatten()).statistic)
    assert rank_correlation(a, torch.ones_like(a)) == 0


def test_the_other_question_is_about_other_classes_as_far_as_there_are_any():
    (a, b), other = explained_pair(torch.tensor([0.1, 3.0, 2.0, 1.0]))
    assert (int(a), int(b)) == (1, 2)
    assert other is not None
    assert [int(of) for of in other if of is not None] == [3, 0]
    assert [int(of) for of in explained_pair(torch.tensor([0.1, 3.0, 2.0]))[1] or ()] == [0, 1]
    assert explained_pair(torch.tensor([0.1, 3.0]))[1] is None


@pytest.mark.slow
def test_an_edge_detector_fails_the_checks_and_a_method_passes(monkeypatch: pytest.MonkeyPatch):
    def edges(network: nn.Sequential, images: Tensor, pair: object, background: Tensor) -> Tensor:
        return torch.stack([control_maps(image, 0)["edges"] for image in images])

    monkeypatch.setattr(faithfulness, "METHODS", {**FEW, "edge_method": Method("edges", edges)})
    done: list[None] = []
    scores, checks = measure(network(), IMAGES, IMAGES, checked=4, on_image=lambda: done.append(None))
    assert len(done) == len(IMAGES)
    assert len(scores) == len(IMAGES) * len(INFILLS) * (3 + len(CONTROLS))
    assert set(checks["check"]) == {"fc", "conv2", "conv1", OTHER}
    assert checks["image"].nunique() == 4
    mean = checks.groupby(["method", "check"])["rank_correlation"].mean().unstack()
    for unmoved in ("edge_method", "edges", "middle", "distance_from_grey"):
        assert mean.loc[unmoved].tolist() == pytest.approx([1.0] * 4)
    assert mean.loc[["random", "input_x_gradient"], "conv1"].abs().max() < 0.2
    of_edges = scores[scores["method"].isin(["edges", "edge_method"])].pivot_table(
        index=["image", "infill"], columns="method", values="squares"
    )
    assert of_edges["edges"].tolist() == pytest.approx(of_edges["edge_method"].tolist())
