import numpy as np
import pytest
import torch
from torch.nn import functional

from study import training
from study.architectures import CNNConfig, FFNNConfig, ModelConfig
from study.images import Labelled, normalise
from study.models import build_model
from study.probes.influence import checkpoint_epochs, similarity, tracin

GENERATOR = torch.Generator().manual_seed(0)
IMAGES = Labelled(
    torch.randint(0, 256, (21, 3, 32, 32), dtype=torch.uint8, generator=GENERATOR),
    torch.randint(0, 4, (21,), generator=GENERATOR),
)
TRAIN, STUDIED = IMAGES.subset(torch.arange(20)), IMAGES.subset(torch.tensor([20]))
MODELS = [CNNConfig(filters=(4, 6)), FFNNConfig(hidden=8)]


@pytest.mark.parametrize("config", MODELS, ids=lambda config: config.name)
def test_scores_are_the_sum_over_epochs_of_learning_rate_times_the_product_of_gradients(
    config: ModelConfig, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(training, "EVALUATION_BATCH", {"cpu": 8})  # several batches, the last one smaller
    epochs = [build_model(config, classes=4, seed=seed) for seed in range(3)]

    scores = tracin(
        build_model(config, classes=4, seed=9), [model.state_dict() for model in epochs], 0.01, TRAIN, STUDIED
    )

    expected = np.zeros(20)
    for model in epochs:
        weight = getattr(model, model.layers[-1]).weight
        gradients = [
            torch.autograd.grad(
                functional.cross_entropy(model(normalise(IMAGES.images[[row]])), IMAGES.labels[[row]]), weight
            )[0]
            for row in range(21)
        ]
        expected += [0.01 * (gradient * gradients[20]).sum().item() for gradient in gradients[:20]]
    assert scores == pytest.approx(expected, rel=1e-4, abs=1e-7)
    assert scores.min() < 0 < scores.max()


@pytest.mark.parametrize("config", MODELS, ids=lambda config: config.name)
def test_similarity_is_the_cosine_of_what_the_last_layer_reads(config: ModelConfig):
    model = build_model(config, classes=4, seed=0)

    cosines = similarity(model, IMAGES.images, IMAGES.images[20])

    with torch.no_grad():
        outputs = model.activations(normalise(IMAGES.images))["pool2" if config.name == "cnn" else "relu1"]
    unit = functional.normalize(outputs.flatten(1))
    assert cosines == pytest.approx((unit @ unit[20]).numpy(), abs=1e-5)
    assert cosines.argmax() == 20


def test_few_epochs_are_chosen_from_the_first_trained_one_to_the_last():
    assert checkpoint_epochs(range(31)) == [1, 2, 5, 13, 30]
    assert checkpoint_epochs(range(4)) == [1, 2, 3]
    assert checkpoint_epochs({0, 1, 2}) == [1, 2]
    assert checkpoint_epochs([7]) == [7]
    assert checkpoint_epochs([0]) == [0]
