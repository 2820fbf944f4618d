from dataclasses import replace

import pytest
import torch
from torch import nn

from study.architectures import CNNConfig, FFNNConfig
from study.config import TrainConfig
from study.device import Machine
from study.errors import OutOfMemory
from study.images import Labelled
from study.memory import require_memory, training_memory
from study.models import build_model
from study.training import TrainingState, epochs

MACHINE = Machine(torch.device("cpu"), "float32", 1)
IMAGE = 3 * 4 * 32 * 32


def network(side: int = 32) -> nn.Module:
    return build_model(CNNConfig(), classes=10, seed=0, side=side)


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_the_cnn_keeps_the_activations_that_its_gradients_need():
    model = network()
    kept = (
        IMAGE
        + 32 * 32 * 32 * 4  # ReLU, which the pooling keeps too
        + 32 * 16 * 16 * (4 + 8)  # pooling, and where each maximum was
        + 64 * 16 * 16 * 4
        + 64 * 8 * 8 * (4 + 8)
        + 64 * 8 * 8 * 4  # flattened
    )
    largest = 32 * 32 * 32 * 4
    assert training_memory(model, 200, 32, MACHINE) == pytest.approx(200 * (kept + largest) + 16 * parameters(model))


def test_more_images_and_larger_ones_take_more():
    batch, single = (training_memory(network(64), count, 64, MACHINE) for count in (200, 1))
    assert batch > 150 * single - 150 * 16 * parameters(network(64))
    assert batch > 3.5 * (training_memory(network(32), 200, 32, MACHINE) - 16 * parameters(network(32)))


def test_the_weights_of_a_plain_network_count_once_and_not_for_each_image():
    model = build_model(FFNNConfig(), classes=10, seed=0, side=128)
    images = 200 * 2 * 4 * 3 * 128 * 128
    assert training_memory(model, 200, 128, MACHINE) == pytest.approx(16 * parameters(model) + images, rel=0.05)


def test_to_measure_leaves_the_network_and_the_random_numbers_as_they_are():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.Dropout(),
        nn.Flatten(),
        nn.LazyLinear(2),
    )
    model(torch.zeros(2, 3, 32, 32))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    numbers = torch.get_rng_state()
    training_memory(model, 200, 32, MACHINE)
    assert torch.equal(torch.get_rng_state(), numbers)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_training_that_the_memory_has_no_room_for_is_refused_before_its_first_step():
    # A batch of so many images that any machine is too small; the images themselves are one.
    many = 10**8
    images = Labelled(torch.zeros(1, 3, 32, 32, dtype=torch.uint8).expand(many, 3, 32, 32), torch.zeros(1).expand(many))
    config = TrainConfig(batch_size=many, epochs=1)
    state = TrainingState(network(), config, MACHINE)
    with pytest.raises(OutOfMemory, match=r"in batches of 100000000 takes about \d+\.\d GiB, .* --image"):
        next(epochs(state, images, config, MACHINE, evaluate={}))
    assert state.steps == 0


def test_a_batch_has_no_more_images_than_there_are():
    require_memory(network(), TrainConfig(batch_size=10**9), 32, 100, MACHINE)


def test_trainings_at_a_time_share_the_memory():
    crowd = replace(MACHINE, workers=10**7)
    with pytest.raises(OutOfMemory, match="GiB each, 10000000 at a time"):
        require_memory(network(), TrainConfig(), 32, 1000, crowd)


def test_on_a_gpu_its_own_errors_say_it():
    require_memory(network(), TrainConfig(batch_size=10**12), 32, 10**12, Machine(torch.device("cuda"), "bf16", 1))
