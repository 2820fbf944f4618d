"""Commands that messages suggest, with the options for the current home and tracking store."""

import os
import shlex
import shutil
import sys
from pathlib import Path

from study.architectures import default_model, model_option
from study.config import IMAGE_SIZE, DataConfig, SearchConfig, TrainConfig
from study.home import Home, default_home
from study.ranges import option_of
from study.system.redaction import masked
from study.tracking.runs import Run
from study.tracking.store import Store

SEARCH_OPTIONS = {
    "learning_rate": "--lr",
    "weight_decay": "--decay",
    "sampler": "--sampler",
    "pruner": "--pruner",
    "seed": "--seed",
}
"""The options of `study tune` by the settings of a search that must stay the same when it is continued."""


def command(store: Store, *words: str) -> str:
    """A command of this program on `store` and its home, ready to be typed."""
    return command_at(store.home, store.uri, *words)


def command_at(home: Home, uri: str, *words: str) -> str:
    """Like `command`, for the store at `uri`, which need not exist."""
    return f"{_name()} {shlex.join([*words, *where(home, uri)])}"


def retraining(store: Store, run: Run) -> str:
    """The command that repeats or continues the retraining `run`."""
    return command(store, *_retraining(run))


def retraining_anywhere(run: Run) -> str:
    """Like `retraining`, for any home."""
    return shlex.join(["study", *_retraining(run)])


def _retraining(run: Run) -> tuple[str, ...]:
    return "retrain", "--run", run.trial_run, "--epochs", str(run.epochs), "--seed", str(run.seed)


def searching(config: SearchConfig, data: DataConfig) -> str:
    """The command that continues a search on the data set of `data`, for any home."""
    return shlex.join(["study", *search_words(config, data)])


def search_words(config: SearchConfig, data: DataConfig) -> list[str]:
    """`study tune` and its options for a search on the data set of `data`; without those at their default."""
    default = SearchConfig(name=config.name, model=config.model)
    differing = [name for name in SEARCH_OPTIONS if getattr(config, name) != getattr(default, name)]
    settings = [word for name in differing for word in (SEARCH_OPTIONS[name], str(getattr(config, name)))]
    if config.objectives != default.objectives:
        settings += ["--objective", ",".join(config.objectives)]
    settings += [word for option, text in _hyperparameters(config) for word in (option, text)]
    named = ("--model", model_option(config.model), "--search", config.name, "--trials", str(config.trials))
    return ["tune", *images(data), *named, *settings]


def images(data: DataConfig) -> tuple[str, ...]:
    """The options that select a data set, the size of its images and what is skipped; defaults are left out."""
    size = () if data.image_size == IMAGE_SIZE else ("--image-size", str(data.image_size))
    return ("--dataset", data.recorded_dataset, *size, *(("--skip-unreadable",) if data.skip_unreadable else ()))


def _hyperparameters(config: SearchConfig) -> list[tuple[str, str]]:
    """The options of `study tune` for what is drawn beside both rates, and for what is not the report's."""
    fixed = TrainConfig(model=config.model, epochs=config.epochs, **config.shared()).hyperparameters()
    default = TrainConfig(model=default_model(config.model), epochs=SearchConfig.epochs).hyperparameters()
    texts = {name: str(config.choices.get(name, value)) for name, value in fixed.items() if name not in SEARCH_OPTIONS}
    changed = {name: text for name, text in texts.items() if text != str(default.get(name))}
    options = {option_of(name, config.model): text for name, text in changed.items()}
    if "--filters" in options:
        options["--filters"] = f"{texts['filters1']}/{texts['filters2']}"
    pairs = [(*option.split(), text) for option, text in options.items()]
    return [(option, "=".join(rest)) for option, *rest in pairs]


def where(home: Home, uri: str) -> tuple[str, ...]:
    """The options that select a home and a store, passwords masked; none for the defaults."""
    options = () if home == default_home() else ("--home", str(home.root))
    return options if uri == home.tracking_uri else (*options, "--tracking-uri", masked(uri))


def _name() -> str:
    """How to call this program: by name where the shell finds it, else by path."""
    program = Path(sys.argv[0])
    on_path = shutil.which("study")
    if program.name != "study" or (on_path and Path(on_path).resolve() == program.resolve()):
        return "study"
    return os.path.relpath(program)
