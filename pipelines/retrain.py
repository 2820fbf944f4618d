"""Stage 2, `study retrain`: train a trial's settings on all training images, keeping the weights of every epoch.

Leaves one run with `weights/epoch_000.safetensors` (before training) and a file for every epoch after it, the
logits of the final weights on all images, and the model, registered. The test images give the run's curve, and are
not used to choose anything.
"""

from collections.abc import Generator
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pipelines.continued import close_dead, lost_files, unfinished
from pipelines.ranks import shared
from pipelines.session.context import Context
from pipelines.session.display import Bar
from pipelines.session.mlflow_pages import run_page
from pipelines.session.notes import describe_retrained
from pipelines.trials.trainings import Images, TrainedEpoch
from pipelines.trials.trainings import retraining as train
from pipelines.trials.turns import retried, take_turns
from study.architectures import CustomConfig, ModelConfig
from study.cautions import baseline, warmup_caution
from study.config import TrainConfig
from study.custom import change_warning, source_hash
from study.data import Dataset
from study.device import failures_explained, release_freed_memory
from study.duplicates import find_duplicates
from study.errors import Diverged, Incomplete, StudyError
from study.models import build_model
from study.state import weights_in
from study.tracking.artifacts import predictions_path
from study.tracking.best import require_searched_on
from study.tracking.checkpoints import Checkpoint, Checkpoints
from study.tracking.failures import failure_recorded
from study.tracking.heartbeat import require_own, sending_heartbeats
from study.tracking.registry import log_model, model_digests, model_name
from study.tracking.runs import Run, metric
from study.tracking.tags import retrain_tags
from study.tracking.writer import Writer
from study.training import accuracy, predict


def retrain(trial: Run, dataset: Dataset, context: Context, *, epochs: int, seed: int | None = None) -> str:
    """Trains the settings of `trial` from new weights, or continues where it was interrupted; returns the run's id.

    Args:
        trial: the tracked trial.
        dataset: the images that the trial was searched on.
        context: the stores, the machine and the display.
        epochs: passes over the training images.
        seed: of the initial weights and the order of images; by default the search's own.

    Raises:
        StudyError: for another data set, a run under way, a loss that is no longer finite, or a GPU that fails.
        OutOfMemory: where memory runs out.
        Incomplete: where a file that was kept is missing or altered at the end.
        UnderWay: where another process retrains it.
        KeyboardInterrupt: after the run was marked as interrupted.
    """
    images = Images.of_all(dataset)
    return take_turns([retraining(trial, dataset, images, context, epochs=epochs, seed=seed)], 1)[0]


def retraining(
    trial: Run, dataset: Dataset, images: Images, context: Context, *, epochs: int, seed: int | None = None
) -> Generator[None, None, str]:
    """Retrains as `retrain` does, yielding while a node of a cluster trains; `images` are those of `dataset`."""
    seed = trial.base_seed if seed is None else seed
    name = f"{trial.full_name}, seed {seed}"
    attempt = partial(_retraining, trial, dataset, images, context, epochs=epochs, seed=seed)
    return (yield from retried(attempt, name, context.display.say))


def _retraining(
    trial: Run, dataset: Dataset, images: Images, context: Context, *, epochs: int, seed: int
) -> Generator[None, None, str]:
    require_searched_on(trial, dataset.digest, dataset.source)
    config = replace(trial.train_config, epochs=epochs, seed=seed, model=_as_it_is_now(trial, dataset, context))
    if caution := warmup_caution(config, len(images)):
        context.display.say(caution)
    context.store.writable(trial.dataset_key, model_name(trial))
    close_dead(trial, seed, epochs, context)
    with context.locked():
        run_id = unfinished(trial, config, context) or _start(trial, config, dataset, context)
    try:
        with (
            failure_recorded(context.store, run_id),
            sending_heartbeats(context.store, run_id),
            failures_explained(context.machine),
        ):
            yield from _train(run_id, config, trial, dataset, images, context)
            require_own(context.store, run_id)
    except Diverged as end:
        raise StudyError(f"The retraining {run_id} diverged: {end}; choose another trial with --run.") from None
    context.store.finish(run_id, "FINISHED", "complete")
    run = context.store.get(run_id)
    describe_retrained(context.store, run)
    context.display.say(
        f"Retrained {trial.full_name}, seed {config.seed}, epochs {epochs}: "
        f"test accuracy {metric(run, 'final_test_accuracy'):.4f}, "
        f"train accuracy {metric(run, 'final_train_accuracy'):.4f}; run {run_id}. {baseline(dataset)}"
    )
    context.say_pages(run=run_page(run))
    return run_id


def _as_it_is_now(trial: Run, dataset: Dataset, context: Context) -> ModelConfig:
    """The network of a trial with the hash that its source has now, which may have changed; it is built to check it.

    Raises:
        StudyError: where it cannot be built.
    """
    model = trial.train_config.model
    build_model(model, classes=len(dataset.classes), seed=0, side=dataset.side)
    if not (message := change_warning(model)):
        return model
    context.display.say(f"{message} Its settings were searched with the earlier one.")
    assert isinstance(model, CustomConfig)
    return replace(model, model_source=source_hash(model))


def _start(trial: Run, config: TrainConfig, dataset: Dataset, context: Context) -> str:
    run_id = context.store.start(
        dataset.key,
        f"{trial.model} · seed {config.seed}",
        tags=retrain_tags(trial, config.seed),
        params={**config.params(), **context.params(dataset)},
    )
    context.log_dataset(run_id, dataset, "train", "test")
    return run_id


def _description(dataset: Dataset) -> dict[str, Any]:
    return {
        "key": dataset.key,
        "source": dataset.source,
        "digest": dataset.digest,
        "classes": list(dataset.classes),
        "train": len(dataset.train),
        "test": len(dataset.test),
        "test_images_equal_to_a_training_image": find_duplicates(dataset.train, dataset.test).leaked,
    }


def _train(
    run_id: str, config: TrainConfig, trial: Run, dataset: Dataset, images: Images, context: Context
) -> Generator[None]:
    checkpoints = Checkpoints(context.store, run_id)
    checkpoints.keep_description(_description(dataset))
    model = build_model(config.model, classes=len(dataset.classes), seed=config.seed, side=dataset.side)
    model.load_state_dict((yield from _fit(run_id, config, checkpoints, images, dataset, context)))
    # As it was trained.
    model.to("cpu" if context.cluster else context.machine.device).to(memory_format=torch.channels_last)
    _keep_predictions(run_id, model, checkpoints, config, dataset, context)
    # Before it is registered, after which it may be served as the best.
    _require_whole(run_id, config, context)
    register_model(run_id, model.to("cpu"), trial, dataset, context)
    checkpoints.keep_model(model_digests(context.store, run_id))


def _fit(
    run_id: str, config: TrainConfig, checkpoints: Checkpoints, images: Images, dataset: Dataset, context: Context
) -> Generator[None, None, dict[str, Tensor]]:
    """Trains from the latest whole checkpoint, or the beginning, to the last epoch; returns the final weights."""
    begun, state, weights = 0, None, dict[str, Tensor]()
    if latest := checkpoints.latest():
        begun, state, metrics = latest
        weights = weights_in(state)
        checkpoints.record(metrics, begun)
        context.display.say(f"Continuing run {run_id} after epoch {begun}.")
    shown = context.display.bar(f"retraining {config.model.name}", config.epochs * len(images))
    with Writer(context.store) as writer, shown as bar:
        bar.advance(begun * len(images))
        results: Generator[TrainedEpoch | None]
        if context.machine.world_size > 1:
            results = shared(images, dataset, context.machine, config, state, on_batch=bar.advance)
        else:
            results = context.run(train, images, config, state, on_batch=bar.advance)
        with closing(results) as training:
            for trained in training:
                if trained is None:
                    yield
                    continue
                if context.cluster and trained.epoch.number:
                    bar.advance(len(images))
                _keep_epoch(trained, checkpoints, writer, config, context, bar)
                weights = trained.weights
    return weights


def _keep_epoch(
    trained: TrainedEpoch, checkpoints: Checkpoints, writer: Writer, config: TrainConfig, context: Context, bar: Bar
) -> None:
    epoch = trained.epoch
    metrics = epoch.metrics | epoch.speed | trained.usage
    checkpoint = Checkpoint(epoch.number, trained.state, metrics)
    writer.submit(partial(checkpoints.keep_epoch, trained.weights, checkpoint))
    progress = f"test {metrics['test_accuracy']:.3f}"
    bar.note(f"epoch {epoch.number}/{config.epochs} · {progress}")
    if epoch.number:
        progress += f" · train {metrics['train_accuracy']:.3f} · {epoch.images_per_second:,.0f} images/s"
    named = f"seed {config.seed}, " if context.cluster else ""  # the lines of several trainings mix
    context.display.say(f"{named}epoch {epoch.number}/{config.epochs}: {progress}")


def _keep_predictions(
    run_id: str, model: nn.Module, checkpoints: Checkpoints, config: TrainConfig, dataset: Dataset, context: Context
) -> None:
    require_own(context.store, run_id)
    parts = {"train": dataset.train, "test": dataset.test}
    with context.display.bar("predicting", len(parts)) as bar:
        for name, part in parts.items():
            logits = predict(model, part.images).cpu()
            checkpoints.keep(predictions_path(name), {"logits": logits, "labels": part.labels})
            # A continued run may have recorded it already, and MLflow would keep both.
            if f"final_{name}_accuracy" not in context.store.get(run_id).metrics:
                final = {f"final_{name}_accuracy": accuracy(logits, part.labels).item()}
                context.store.log(run_id, final, config.epochs)
            bar.advance()


def _require_whole(run_id: str, config: TrainConfig, context: Context) -> None:
    if lost := Checkpoints(context.store, run_id).broken(config.epochs):
        raise Incomplete(
            f"The retraining {run_id} is incomplete: {lost_files(lost)}; the same command trains it again, as a "
            "new run."
        )


def register_model(run_id: str, model: nn.Module, trial: Run, dataset: Dataset, context: Context) -> None:
    """Exports `model`, which must be on the CPU, to the run and registers it, unless that is done already."""
    release_freed_memory()
    with context.display.bar("exporting the model", 1):
        context.store.wait(
            lambda: log_model(
                context.store.client,
                run_id,
                model,
                trial.train_config.model,
                dataset.classes,
                dataset.test.images[0].permute(1, 2, 0).contiguous().numpy(),
                register_as=model_name(trial),
                score=metric(trial, "best_val_accuracy"),
                say=context.display.say,
            )
        )
