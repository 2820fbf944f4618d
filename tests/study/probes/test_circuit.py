import numpy as np
import pytest
import torch

from study.architectures import CNNConfig
from study.images import Labelled, normalise
from study.models import build_model
from study.probes import margins
from study.probes.ablation import ablate, replacement_maps
from study.probes.circuit import background, circuit, rival_of, second_layer_shares

GENERATOR = torch.Generator().manual_seed(1)
IMAGE = torch.randint(0, 256, (3, 32, 32), generator=GENERATOR, dtype=torch.uint8)
OTHERS = torch.randint(0, 256, (20, 3, 32, 32), generator=GENERATOR, dtype=torch.uint8)
SILENT = {"conv1": 1, "conv2": 4}
CONFIGS = [
    CNNConfig(filters=(5, 7)),
    CNNConfig(filters=(5, 7), kernel=3, padding=0, pool=3),
    CNNConfig(filters=(5, 7), kernel=3, dilation=2, stride=2),
    CNNConfig(filters=(5, 7), pool=3, pooling="average"),
]


def network(config=CONFIGS[0]):
    model = build_model(config, classes=4, seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 2
        for layer, filter in SILENT.items():
            getattr(model, layer).bias[filter] = -1000
    return model


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_pixels_filters_and_links_each_sum_to_the_margin_less_its_mean(config):
    model = network(config)

    shares = circuit(model, IMAGE, 2, 0, OTHERS)

    with torch.no_grad():
        logits, others = model(normalise(IMAGE[None]))[0], model(normalise(OTHERS))
    expected = float(logits[2] - logits[0] - (others[:, 2] - others[:, 0]).mean())
    assert abs(expected) > 0.01
    assert shares.margin - shares.mean_margin == pytest.approx(expected, abs=1e-5)
    sums = [shares.pixels, shares.links, *shares.places.values(), *map(shares.shares, SILENT)]
    assert [float(values.sum()) for values in sums] == pytest.approx([expected] * len(sums), abs=1e-4)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_links_sum_to_the_shares_of_the_filters_that_they_join_and_places_to_those_of_their_filter(config):
    shares = circuit(network(config), IMAGE, 2, 0, OTHERS)

    assert np.allclose(shares.links.sum(axis=1), shares.shares("conv1"), atol=1e-5)
    assert np.allclose(shares.links.sum(axis=0), shares.shares("conv2"), atol=1e-5)
    for layer, places in shares.places.items():
        assert np.allclose(places.sum(axis=(1, 2)), shares.shares(layer), atol=1e-5)


def test_a_background_that_passes_in_batches_gives_the_same(monkeypatch: pytest.MonkeyPatch):
    whole = circuit(network(), IMAGE, 2, 0, OTHERS)
    monkeypatch.setattr(margins, "BATCH", 6)

    parts = circuit(network(), IMAGE, 2, 0, OTHERS)

    assert parts.mean_margin == pytest.approx(whole.mean_margin, abs=1e-6)
    assert np.allclose(parts.pixels, whole.pixels, atol=1e-6)
    assert np.allclose(parts.links, whole.links, atol=1e-6)
    for layer in SILENT:
        assert np.allclose(parts.places[layer], whole.places[layer], atol=1e-6)
        assert np.allclose(parts.of_logits[layer], whole.of_logits[layer], atol=1e-6)


def test_samples_are_drawn_in_one_batch_for_small_images_and_in_smaller_ones_for_large():
    assert margins.batch_sizes(300, torch.empty(1, 3, 32, 32)) == [300]
    assert margins.batch_sizes(300, torch.empty(1, 3, 90, 90)) == [37] * 8 + [4]


def test_shares_for_a_against_b_are_minus_those_for_b_against_a():
    model = network()

    one, other = circuit(model, IMAGE, 2, 0, OTHERS), circuit(model, IMAGE, 0, 2, OTHERS)

    assert one.margin == -other.margin
    assert np.allclose(one.pixels, -other.pixels, atol=1e-6)
    assert np.allclose(one.links, -other.links, atol=1e-6)
    for layer in SILENT:
        assert np.allclose(one.places[layer], -other.places[layer], atol=1e-6)
        assert np.allclose(one.against_each(layer)[0], -other.against_each(layer)[2], atol=1e-6)


def test_second_layer_shares_equal_the_loss_by_mean_ablation_over_the_same_background():
    model = network()

    shares = circuit(model, IMAGE, 2, 0, OTHERS)

    ablated = ablate(model, IMAGE[None], replacement_maps(model, OTHERS))
    lost = (ablated.logits - ablated.without["conv2"])[:, 0]
    assert np.allclose(shares.of_logits["conv2"], lost.T, atol=1e-5)


def test_silent_filters_have_no_share_and_no_links():
    shares = circuit(network(), IMAGE, 2, 0, OTHERS)

    for layer, filter in SILENT.items():
        assert not shares.of_logits[layer][:, filter].any()
        assert not shares.places[layer][filter].any()
        assert shares.of_logits[layer].any(axis=0).sum() > 3
    assert not shares.links[SILENT["conv1"]].any()
    assert not shares.links[:, SILENT["conv2"]].any()


@pytest.mark.parametrize("config", [CONFIGS[0], CONFIGS[-1]], ids=str)
def test_first_layer_maps_and_pixels_agree_with_captums_layer_method(config: CNNConfig):
    from captum.attr import LayerDeepLiftShap

    from study.probes.twin import margin_index, quietly, twin, with_margins

    model = network(config)
    explained = with_margins(twin(model))
    target = margin_index(torch.tensor([2]), torch.tensor([0]), 4)

    with quietly():
        expected = LayerDeepLiftShap(explained, explained.get_submodule("pool1")).attribute(
            normalise(IMAGE[None]), normalise(OTHERS), target=target
        )

    assert np.allclose(circuit(model, IMAGE, 2, 0, OTHERS).places["conv1"], expected[0].detach().numpy(), atol=1e-5)


def test_shares_of_many_images_are_those_of_each_circuit():
    model, images = network(), OTHERS[:3]

    shares = second_layer_shares(model, images, OTHERS)

    for image, of_image in zip(images, shares, strict=True):
        assert np.allclose(circuit(model, image, 0, 1, OTHERS).of_logits["conv2"], of_image.T, atol=1e-5)


def test_rival_is_the_runner_up_where_right_or_without_a_label_and_the_true_class_where_wrong():
    logits = np.array([0.5, 3.0, 2.0, -1.0])

    assert rival_of(logits, 1) == (1, 2)
    assert rival_of(logits) == (1, 2)
    assert rival_of(logits, 3) == (1, 3)


def test_background_has_as_many_images_of_each_class_up_to_the_number_asked_for():
    labels = torch.arange(4).repeat_interleave(30)
    images = labels[:, None, None, None].expand(-1, 3, 32, 32).to(torch.uint8)

    assert background(Labelled(images, labels), 20)[:, 0, 0, 0].bincount().tolist() == [5, 5, 5, 5]
    assert len(background(Labelled(images[:7], labels[:7]), 20)) == 7
