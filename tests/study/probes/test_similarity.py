import numpy as np
import pytest
import torch

from study.architectures import CNNConfig
from study.models import CNN, build_model
from study.probes.similarity import layer_similarity, layers, linear_cka, reasons

GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8, generator=GENERATOR)


def network(seed: int) -> CNN:
    model = build_model(CNNConfig(filters=(4, 6)), classes=4, seed=seed)
    assert isinstance(model, CNN)
    return model.eval()


def test_cka_of_a_thing_with_itself_is_1_also_rotated_scaled_and_shifted():
    values = torch.randn(40, 6, generator=GENERATOR)
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=GENERATOR)).Q
    assert linear_cka(values, values) == pytest.approx(1)
    assert linear_cka(values, 3 * values @ rotation + 7) == pytest.approx(1, abs=1e-5)
    assert np.isnan(linear_cka(values, torch.ones(40, 2)))


def test_cka_is_that_of_the_features_covariances():
    a, b = torch.randn(40, 5, generator=GENERATOR), torch.randn(40, 3, generator=GENERATOR)
    a, b = a - a.mean(0), b - b.mean(0)
    expected = (a.T @ b).norm() ** 2 / ((a.T @ a).norm() * (b.T @ b).norm())
    assert linear_cka(a + 1, b) == pytest.approx(expected.item(), abs=1e-5)
    assert linear_cka(a, b) < 0.5


def test_the_last_epoch_is_like_itself_and_answers_are_counted():
    outputs = [layers(network(seed), IMAGES) for seed in (0, 1)]
    table = layer_similarity(dict(enumerate([outputs[0], outputs[1], outputs[1]])))
    assert table.loc[2, ["pool1", "pool2", "fc"]].tolist() == pytest.approx([1, 1, 1])
    assert table.loc[0, "pool2"] < 0.99
    share = (outputs[0]["fc"].argmax(1) != outputs[1]["fc"].argmax(1)).double().mean().item()
    assert table["changed"].tolist()[1:] == [share, 0.0]
    assert table["differs"].tolist() == [share, 0.0, 0.0]


def test_the_shares_and_the_pixels_sum_to_the_margin_minus_its_mean():
    model, background = network(0), IMAGES[10:20]
    margin, shares, pixels = reasons(model, IMAGES[0], 1, 2, background)
    logits = layers(model, IMAGES)["fc"]
    difference = margin - (logits[10:20, 1] - logits[10:20, 2]).mean().item()
    assert margin == pytest.approx((logits[0, 1] - logits[0, 2]).item(), abs=1e-5)
    assert shares.sum() == pytest.approx(difference, abs=1e-4)
    assert pixels.sum() == pytest.approx(difference, abs=1e-4)
