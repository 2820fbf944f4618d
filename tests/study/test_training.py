import math
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.metrics import accuracy_score, log_loss
from torch import Tensor, nn
from torch.nn import functional

from study import training
from study.architectures import CNNConfig, FFNNConfig
from study.config import TrainConfig
from study.data import Dataset, Labelled, normalise
from study.device import Machine, has_bf16_units, prepare
from study.errors import Diverged
from study.models import build_model
from study.system import interruption
from study.training import Epoch, TrainingState, epochs, evaluate, fit, predict

SMALL = CNNConfig(filters=(4, 6))
needs_bf16 = pytest.mark.skipif(not has_bf16_units(torch.device("cpu")), reason="this processor has no bf16 units")
PRECISIONS = pytest.mark.parametrize("precision", ["float32", pytest.param("bf16", marks=needs_bf16)])


def settings(**changed: object) -> TrainConfig:
    return TrainConfig(**{"model": SMALL, "learning_rate": 5e-3, "epochs": 4, "batch_size": 32, "seed": 2} | changed)


def begun(config: TrainConfig, machine: Machine) -> TrainingState:
    return TrainingState(build_model(config.model, classes=10, seed=config.seed), config, machine)


def train(
    config: TrainConfig,
    dataset: Dataset,
    machine: Machine,
    state: TrainingState | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> tuple[list[Epoch], list[dict[str, Tensor]]]:
    """Each epoch's result and the weights after it."""
    state = state or begun(config, machine)
    epochs, weights = [], []

    def on_epoch(epoch: Epoch) -> None:
        epochs.append(epoch)
        weights.append(state.weights())

    test = {"test": dataset.test}
    fit(state, dataset.train, config, machine, evaluate=test, on_epoch=on_epoch, on_batch=on_batch, from_start=True)
    return epochs, weights


def assert_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


@pytest.fixture
def two_threads() -> Iterator[int]:
    before = torch.get_num_threads()
    yield 2
    torch.set_num_threads(before)


@PRECISIONS
def test_same_seed_twice_gives_equal_weights_at_every_epoch(precision: str, tiny: Dataset, two_threads: int):
    machine = prepare("cpu", precision, two_threads)
    first, second = (train(settings(), tiny, machine) for _ in range(2))
    assert len(first[1]) == 5
    for ours, again in zip(first[1], second[1], strict=True):
        assert_equal(ours, again)
    assert [epoch.metrics for epoch in first[0]] == [epoch.metrics for epoch in second[0]]


def test_another_seed_gives_other_weights(tiny: Dataset, machine: Machine):
    config = settings(epochs=1)
    first = train(config, tiny, machine)[1]
    # The same initial weights in another order of images: the seed decides about both.
    state = begun(config, machine)
    state.order.manual_seed(99)
    other = train(config, tiny, machine, state)[1]
    assert_equal(first[0], other[0])
    assert not torch.equal(first[1]["fc.weight"], other[1]["fc.weight"])


@PRECISIONS
def test_a_few_epochs_lower_the_loss(precision: str, tiny: Dataset):
    epochs, _ = train(settings(learning_rate=1e-2, epochs=6), tiny, prepare("cpu", precision))
    losses = [epoch.metrics["test_loss"] for epoch in epochs]
    assert losses[-1] < 0.6 * losses[0]
    assert epochs[-1].metrics["train_accuracy"] > 0.6


@pytest.mark.parametrize("through_a_file", [False, True])
@pytest.mark.parametrize(
    "changed",
    [
        {"weight_decay": 1e-2},
        {"optimiser": "adamw", "weight_decay": 1e-2},
        {"warmup_steps": 6},
        {"warmup_steps": 8},
        {"schedule": "cosine"},
        {"schedule": "cosine", "warmup_steps": 6},
        {"model": FFNNConfig(hidden=5)},
    ],
    ids=str,
)
def test_a_restored_state_continues_as_if_never_interrupted(
    changed: dict[str, object], through_a_file: bool, tiny: Dataset, machine: Machine, tmp_path: Path
):
    config = settings(**changed)
    _, expected = train(config, tiny, machine)
    state = begun(config, machine)
    interrupted = epochs(state, tiny.train, config, machine, evaluate={"test": tiny.test})
    for _ in range(2):
        next(interrupted).wait()
    interrupted.close()
    kept = state.tensors()
    if through_a_file:
        save_file(kept, tmp_path / "state.safetensors")
        kept = load_file(tmp_path / "state.safetensors")
    continued = begun(settings(**changed, seed=77), machine)
    continued.restore(kept)
    rest, weights = train(config, tiny, machine, continued)
    assert [epoch.number for epoch in rest] == [3, 4]
    assert_equal(weights[0], expected[3])
    assert_equal(weights[1], expected[4])


def test_a_state_restored_before_its_first_epoch_does_not_report_epoch_0_again(tiny: Dataset, machine: Machine):
    _, expected = train(settings(), tiny, machine)
    continued = begun(settings(seed=77), machine)
    continued.restore(begun(settings(), machine).tensors())
    epochs, weights = train(settings(), tiny, machine, continued)
    assert [epoch.number for epoch in epochs] == [1, 2, 3, 4]
    assert_equal(weights[-1], expected[-1])


@needs_bf16
def test_a_state_restored_in_bf16_continues_as_if_never_interrupted(tiny: Dataset):
    machine = prepare("cpu", "bf16")
    _, expected = train(settings(), tiny, machine)
    state = begun(settings(), machine)
    train(settings(epochs=1), tiny, machine, state)
    continued = begun(settings(), machine)
    continued.restore(state.tensors())
    assert_equal(train(settings(), tiny, machine, continued)[1][-1], expected[-1])


def test_kept_tensors_do_not_move_with_the_training(tiny: Dataset, machine: Machine):
    state = begun(settings(), machine)
    train(settings(epochs=1), tiny, machine, state)
    kept = state.tensors()
    before = {name: tensor.clone() for name, tensor in kept.items()}
    train(settings(epochs=2), tiny, machine, state)
    assert_equal(kept, before)


def textbook(config: TrainConfig, data: Labelled) -> tuple[dict[str, Tensor], list[tuple[float, float]]]:
    """Adam as Kingma & Ba (2015) write it with L2 in the gradient; AdamW as Loshchilov & Hutter (2019)."""
    model = build_model(config.model, classes=10, seed=config.seed).to(memory_format=torch.channels_last)
    weights = dict(model.named_parameters())
    first = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    second = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    order, step, epochs = torch.Generator().manual_seed(config.seed), 0, []
    for _ in range(config.epochs):
        loss_sum = correct = 0.0
        for index in torch.randperm(len(data), generator=order).split(config.batch_size):
            logits = model((data.images[index].float() / 255 - 0.5) / 0.5)
            loss = functional.cross_entropy(logits, data.labels[index])
            gradients = torch.autograd.grad(loss, list(weights.values()))
            step += 1
            loss_sum += loss.item() * len(index)
            correct += (logits.argmax(1) == data.labels[index]).sum().item()
            with torch.no_grad():
                for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
                    if config.optimiser == "adamw":
                        weight -= config.learning_rate * config.weight_decay * weight
                    else:
                        gradient = gradient + config.weight_decay * weight
                    first[name] = 0.9 * first[name] + 0.1 * gradient
                    second[name] = 0.999 * second[name] + 0.001 * gradient**2
                    scale = (second[name] / (1 - 0.999**step)).sqrt() + 1e-8
                    weight -= config.learning_rate * first[name] / (1 - 0.9**step) / scale
        epochs.append((loss_sum / len(data), correct / len(data)))
    return {name: weight.detach() for name, weight in weights.items()}, epochs


@pytest.mark.parametrize("optimiser", ["adam", "adamw"])
def test_weights_and_metrics_are_those_of_a_textbook_loop(optimiser: str, tiny: Dataset, machine: Machine):
    config = settings(optimiser=optimiser, weight_decay=0.3, epochs=2, learning_rate=2e-3)
    expected, metrics = textbook(config, tiny.train)
    epochs, weights = train(config, tiny, machine)
    for name, weight in expected.items():
        assert torch.allclose(weights[-1][name], weight, rtol=1e-3, atol=2e-5), name
    for epoch, (loss, accuracy) in zip(epochs[1:], metrics, strict=True):
        assert epoch.metrics["train_loss"] == pytest.approx(loss, rel=1e-4)
        assert epoch.metrics["train_accuracy"] == pytest.approx(accuracy, abs=1.01 / len(tiny.train))


def test_decay_of_adam_and_of_adamw_are_told_apart_by_the_textbook(tiny: Dataset):
    kinds = [settings(optimiser=name, weight_decay=0.3, epochs=2, learning_rate=2e-3) for name in ("adam", "adamw")]
    adam, adamw = (textbook(config, tiny.train)[0]["fc.weight"] for config in kinds)
    assert (adam - adamw).abs().max() > 1e-3


def test_the_first_batchs_metrics_are_those_of_the_initial_weights(tiny: Dataset, machine: Machine):
    config = settings(epochs=1, batch_size=len(tiny.train))
    loss, accuracy = evaluate(build_model(SMALL, classes=10, seed=config.seed), tiny.train)
    metrics = train(config, tiny, machine)[0][1].metrics
    assert metrics["train_loss"] == pytest.approx(loss, rel=1e-5)
    assert metrics["train_accuracy"] == accuracy


def test_epoch_0_is_reported_before_training(tiny: Dataset, machine: Machine):
    epochs, weights = train(settings(epochs=1), tiny, machine)
    untrained = build_model(SMALL, classes=10, seed=2)
    assert_equal(weights[0], dict(untrained.state_dict()))
    assert [epoch.number for epoch in epochs] == [0, 1]
    assert epochs[0].metrics.keys() == {"test_loss", "test_accuracy"}
    assert epochs[0].metrics["test_loss"] == evaluate(untrained, tiny.test)[0]
    assert epochs[1].metrics.keys() == {"train_loss", "train_accuracy", "test_loss", "test_accuracy"}
    assert epochs[1].images_per_second == pytest.approx(len(tiny.train) / epochs[1].seconds)


def test_the_evaluated_images_change_nothing_of_the_training(tiny: Dataset, machine: Machine):
    config, alone = settings(epochs=2), begun(settings(), machine)
    fit(alone, tiny.train, config, machine, evaluate={}, on_epoch=lambda epoch: None)
    assert_equal(alone.weights(), train(config, tiny, machine)[1][-1])


@pytest.mark.parametrize(
    ("changed", "metric", "epoch"),
    [({"learning_rate": 1e30}, "train_loss", 1), ({"learning_rate": 1e30, "batch_size": 120}, "test_loss", 1)],
)
def test_a_loss_that_is_no_number_ends_the_training_with_epoch_and_metric(
    changed: dict[str, float], metric: str, epoch: int, tiny: Dataset, machine: Machine
):
    seen = []
    config = settings(**changed)
    with pytest.raises(Diverged) as raised:
        fit(
            begun(config, machine),
            tiny.train,
            config,
            machine,
            evaluate={"test": tiny.test},
            on_epoch=lambda reported: seen.append(reported.number),
        )
    assert (raised.value.epoch, raised.value.metric) == (epoch, metric)
    assert not math.isfinite(raised.value.value)
    assert metric in str(raised.value)
    assert seen == []


def test_what_on_epoch_raises_ends_the_training_after_that_epoch(tiny: Dataset, machine: Machine):
    state = begun(settings(), machine)

    def stop(epoch: Epoch) -> None:
        if epoch.number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(state, tiny.train, settings(), machine, evaluate={}, on_epoch=stop)
    assert state.epoch == 2
    assert_equal(state.weights(), train(settings(epochs=2), tiny, machine)[1][-1])


def test_training_on_some_rows_is_training_on_a_copy_of_them(tiny: Dataset, machine: Machine):
    chosen = torch.arange(len(tiny.train))[1::3]
    by_row, by_copy = begun(settings(), machine), begun(settings(), machine)
    seen: list[Epoch] = []
    fit(by_row, tiny.train, settings(), machine, rows=chosen, evaluate={}, on_epoch=seen.append)
    fit(by_copy, tiny.train.subset(chosen), settings(), machine, evaluate={}, on_epoch=seen.append)
    assert_equal(by_row.weights(), by_copy.weights())
    halves = len(seen) // 2
    assert [epoch.metrics for epoch in seen[:halves]] == [epoch.metrics for epoch in seen[halves:]]


def test_the_learning_rate_rises_linearly_over_the_warm_up(tiny: Dataset, machine: Machine):
    config, rates = settings(learning_rate=0.01, warmup_steps=5, epochs=2), []
    state = begun(config, machine)
    train(config, tiny, machine, state, on_batch=lambda _: rates.append(state.optimiser.param_groups[0]["lr"].item()))
    assert rates == pytest.approx([0.002, 0.004, 0.006, 0.008, 0.01, 0.01, 0.01, 0.01])


@pytest.mark.parametrize("warmup", [0, 3, 8, 20])
def test_a_cosine_schedule_is_pytorchs_after_the_warm_up(warmup: int, tiny: Dataset, machine: Machine):
    config, rates = settings(learning_rate=0.01, warmup_steps=warmup, schedule="cosine", epochs=2), []
    state = begun(config, machine)
    train(config, tiny, machine, state, on_batch=lambda _: rates.append(state.optimiser.param_groups[0]["lr"].item()))
    # 8 steps in all; the last one has a rate a little above 0.
    reference = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.01)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(reference, T_max=max(1, 8 - warmup))
    expected = [0.01 * (step + 1) / warmup for step in range(min(warmup, 8))]
    for _ in range(8 - warmup):
        expected.append(cosine.get_last_lr()[0])
        reference.step()
        cosine.step()
    assert rates == pytest.approx(expected)


def test_a_schedule_spans_the_rows_that_are_trained_on(tiny: Dataset, machine: Machine):
    config, rates = settings(learning_rate=0.01, schedule="cosine", epochs=2, batch_size=10), []
    state = begun(config, machine)

    def on_batch(images: int) -> None:
        rates.append(state.rate.item())

    rows = torch.arange(15)
    fit(state, tiny.train, config, machine, rows=rows, evaluate={}, on_epoch=lambda _: None, on_batch=on_batch)
    assert rates == pytest.approx([0.01 * (1 + math.cos(math.pi * step / 4)) / 2 for step in range(4)])


def test_on_batch_is_told_every_image_once_an_epoch(tiny: Dataset, machine: Machine):
    counts: list[int] = []
    train(settings(epochs=2), tiny, machine, on_batch=counts.append)
    assert counts == [32, 32, 32, 24] * 2


@pytest.mark.parametrize("batch", [1, 7, 500])
def test_predictions_are_the_models_in_float32_whatever_the_batch(
    batch: int, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(training.EVALUATION_BATCH, "cpu", batch)
    model = build_model(SMALL, classes=10, seed=0)
    logits = predict(model, tiny.test.images)
    with torch.no_grad():
        expected = model.double()(normalise(tiny.test.images).double())
    assert logits.dtype == torch.float32
    assert logits.shape == (40, 10)
    assert torch.allclose(logits.double(), expected, atol=1e-5)


def test_larger_images_are_evaluated_in_smaller_batches(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(training.EVALUATION_BATCH, "cpu", 8)
    device = torch.device("cpu")
    assert [training.evaluation_batch(device, side) for side in (16, 32, 48, 64, 256)] == [8, 8, 3, 2, 1]
    images = torch.randint(0, 256, (5, 3, 48, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    model = build_model(SMALL, classes=10, seed=0, side=48)
    assert torch.allclose(predict(model, images), model(normalise(images)), atol=1e-5)


def test_evaluation_gives_the_loss_and_accuracy_of_scikit_learn(tiny: Dataset):
    model = build_model(SMALL, classes=10, seed=0)
    probabilities = predict(model, tiny.test.images).double().softmax(1).numpy()
    labels = tiny.test.labels.numpy()
    loss, accuracy = evaluate(model, tiny.test)
    assert loss == pytest.approx(log_loss(labels, probabilities / probabilities.sum(1, keepdims=True)), rel=1e-6)
    assert accuracy == accuracy_score(labels, probabilities.argmax(1))


class TestInterruption:
    """A signal comes in the middle of a batch."""

    @pytest.fixture(autouse=True)
    def signals(self) -> Iterator[None]:
        with interruption.signals_noted():
            interruption.check()
            yield

    def test_ends_training_after_the_batch(self, machine: Machine, tiny: Dataset):
        state, batches = begun(settings(), machine), list[int]()

        def on_batch(images: int) -> None:
            batches.append(state.steps)
            if state.steps == 2:
                signal.raise_signal(signal.SIGTERM)

        with pytest.raises(KeyboardInterrupt):
            fit(state, tiny.train, settings(), machine, evaluate={}, on_epoch=lambda epoch: None, on_batch=on_batch)
        assert batches == [1, 2]

    def test_ends_a_prediction_after_the_batch(self, tiny: Dataset, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(training, "EVALUATION_BATCH", {"cpu": 10})
        model, batches = build_model(SMALL, classes=10, seed=0), list[int]()

        def hear(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
            batches.append(len(output))
            if len(batches) == 2:
                signal.raise_signal(signal.SIGTERM)

        model.register_forward_hook(hear)
        with pytest.raises(KeyboardInterrupt):
            predict(model, tiny.test.images)
        assert batches == [10, 10]


class WithDropout(torch.nn.Sequential):
    """Draws random numbers in every step, and keeps running means."""

    def __init__(self) -> None:
        layers = [torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Dropout(0.5)]
        super().__init__(*layers, torch.nn.Flatten(), torch.nn.Linear(4 * 30 * 30, 10))


def test_a_network_that_draws_numbers_continues_as_if_never_interrupted(tiny: Dataset, machine: Machine):
    torch.manual_seed(0)
    initial = WithDropout().state_dict()

    def state() -> TrainingState:
        model = WithDropout()
        model.load_state_dict(initial)
        return TrainingState(model, settings(), machine)

    expected = train(settings(), tiny, machine, state())[1][-1]
    begun_with = state()
    train(settings(epochs=2), tiny, machine, begun_with)
    torch.rand(7)
    continued = state()
    continued.restore(begun_with.tensors())
    assert_equal(train(settings(), tiny, machine, continued)[1][-1], expected)
    other = state()
    assert not torch.equal(train(settings(seed=5), tiny, machine, other)[1][-1]["0.weight"], expected["0.weight"])
