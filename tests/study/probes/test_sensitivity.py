import pytest
import torch

from study.architectures import CNNConfig, FFNNConfig
from study.images import Labelled
from study.models import CNN, build_model
from study.probes.sensitivity import (
    DIRECTIONS,
    NEUTRAL,
    REFERENCE,
    SHIFTS,
    blurred,
    map_shifts,
    moved,
    moved_back,
    moved_in_turn,
    noisy,
    reference_sensitivity,
    sensitivity,
)
from study.training import evaluate

IMAGES = torch.randint(0, 256, (30, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
DATA = Labelled(IMAGES, torch.arange(30) % 3)
CONFIG = CNNConfig(filters=(4, 6))


def network(config: CNNConfig = CONFIG) -> CNN:
    model = build_model(config, classes=3, seed=0)
    assert isinstance(model, CNN)
    return model


@pytest.mark.parametrize("fill", ["edge", "grey"])
@pytest.mark.parametrize(("down", "right"), DIRECTIONS)
def test_a_moved_image_is_the_image_inside_and_filled_outside(fill: str, down: int, right: int):
    assert torch.equal(moved(IMAGES, 0, 0, fill), IMAGES)
    changed = moved(IMAGES, 3 * down, 3 * right, fill)
    rolled = IMAGES.roll((3 * down, 3 * right), (2, 3))
    inside = (slice(None), slice(None), slice(3, -3), slice(3, -3))
    assert torch.equal(changed[inside], rolled[inside])
    if right == 1:
        border = IMAGES[..., :1].expand(-1, -1, -1, 3) if fill == "edge" else torch.full((30, 3, 32, 3), 128)
        assert torch.equal(changed[..., :3], border.to(torch.uint8))


def test_images_are_moved_in_the_four_directions_in_turn():
    changed = moved_in_turn(IMAGES, 2)
    for number in range(len(IMAGES)):
        down, right = DIRECTIONS[number % 4]
        assert torch.equal(changed[number], moved(IMAGES[number : number + 1], 2 * down, 2 * right)[0])


def test_noise_is_the_same_for_each_call_and_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    assert torch.equal(noisy(IMAGES, 0.1), noisy(IMAGES, 0.1))
    assert torch.equal(torch.get_rng_state(), before)
    assert blurred(IMAGES, 1.0).double().var() < IMAGES.double().var() / 4


@pytest.mark.parametrize("config", [CONFIG, FFNNConfig(hidden=5)], ids=["cnn", "ffnn"])
def test_no_change_is_the_accuracy_on_the_clean_images(config):
    model = build_model(config, classes=3, seed=0)
    table = sensitivity(model, DATA)
    unmoved = table[(table["change"] == "moved") & (table["strength"] == 0)]
    neutral = table[[NEUTRAL.get(row.change) == row.strength for row in table.itertuples()]]
    assert (len(unmoved), len(neutral)) == (2, len(NEUTRAL))
    for part in (unmoved, neutral):
        assert part["accuracy"].tolist() == pytest.approx([evaluate(model, DATA)[1]] * len(part))
        assert set(part["unchanged"]) == {1.0}


def test_the_reference_strengths_are_those_of_the_whole_table():
    model = network()
    whole, reference = sensitivity(model, DATA), reference_sensitivity(model, DATA)
    assert set(reference["change"]) == {*REFERENCE, "clean"}
    columns = ["change", "fill", "strength"]
    both = reference.merge(whole, on=columns, suffixes=("", "_whole"))
    assert len(both) == len(REFERENCE)
    assert both["accuracy"].tolist() == both["accuracy_whole"].tolist()


@pytest.mark.parametrize(("pool", "kernel"), [(2, 5), (2, 3)])
def test_pooled_maps_at_even_shifts_are_the_moved_maps_inside(pool: int, kernel: int):
    config = CNNConfig(filters=(4, 6), kernel=kernel, padding=kernel // 2, pool=pool)
    table = map_shifts(network(config), config, DATA)
    pooled = table[table["layer"] == "pool1"].set_index("pixels")
    assert pooled["difference_along"].dropna().index.tolist() == [pixels for pixels in SHIFTS if pixels % 2 == 0]
    assert table["difference_along"].max() < 1e-5
    assert table["cosine_along"].min() > 1 - 1e-5
    # At the same positions they are not: the comparison could fail.
    assert table["cosine_in_place"].max() < 0.999


def test_maps_moved_back_undo_the_shift_inside():
    maps = torch.rand(2, 3, 8, 8)
    assert torch.equal(moved_back(maps.roll(2, 3), 2)[..., :6], maps[..., :6])
    last = map_shifts(network(), CONFIG, DATA).dropna(subset="unchanged_back")
    assert last["layer"].tolist() == ["pool2"] * 2
    assert (last["unchanged_back"] >= last["unchanged"]).all()
