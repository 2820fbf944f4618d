"""Speed of training epochs, against a textbook loop and the matmul ceiling of the hardware.

    python -m benchmarks.training

The images are random, of CIFAR-10's size: their content does not affect the time.
"""

import statistics
from typing import Annotated

import typer

from benchmarks.images import random_images
from benchmarks.measure import epoch_of, flops_per_image, matmul_ceiling, seconds, surroundings
from benchmarks.output import JsonOption, conclude, show
from benchmarks.textbook import Textbook
from study.architectures import MODELS
from study.config import TrainConfig, model_config
from study.device import Machine, prepare
from study.images import Labelled
from study.training import resident


def main(
    images: Annotated[int, typer.Option(help="Images of an epoch.")] = 10_000,
    rounds: Annotated[int, typer.Option(help="Counted epochs of each, after one that is not.")] = 5,
    device: str = "auto",
    precision: str = "auto",
    threads: int = 0,
    write: JsonOption = None,
) -> None:
    """Train both models both ways in turn; print times, ratios and the share of the matmul ceiling."""
    machine = prepare(device, precision, threads)
    random = random_images(images)
    rows: list[list[object]] = []
    figures: dict[str, object] = surroundings(machine)
    for model in MODELS:
        ours, theirs, ceiling = _in_turn(random, TrainConfig(model=model_config(model)), machine, rounds)
        rate = images / ours
        share = rate * flops_per_image(model) / ceiling
        rows.append([model, theirs, ours, theirs / ours, rate, ceiling / 1e9, share])
        figures |= {
            f"{model}_speedup": theirs / ours,
            f"{model}_share_of_matmul_ceiling": share,
            f"{model}_images_per_second": rate,
            f"{model}_textbook_images_per_second": images / theirs,
            f"{model}_matmul_ceiling_gflops": ceiling / 1e9,
        }
    columns = ["model", "textbook, s", "ours, s", "ratio", "images/s", "matmul ceiling, GFLOP/s", "our share of it"]
    show(f"Training epochs of {images:,} images, medians of {rounds}, {machine}", columns, rows)
    conclude(figures, write)


def _in_turn(images: Labelled, config: TrainConfig, machine: Machine, rounds: int) -> tuple[float, float, float]:
    """Median seconds per epoch, ours and the textbook's, and the highest matmul ceiling measured in between."""
    epoch = epoch_of(resident(images, machine), config, machine)
    ours, theirs, ceilings = [], [], []
    with Textbook(images, config, str(machine.device), machine.threads) as textbook:
        for _ in range(rounds + 1):
            ceilings.append(matmul_ceiling(machine))
            ours.append(seconds(epoch, machine.device))
            theirs.append(textbook.epoch())
    return statistics.median(ours[1:]), statistics.median(theirs[1:]), max(ceilings)


if __name__ == "__main__":
    typer.run(main)
