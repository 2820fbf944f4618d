"""The searches and networks that the options of a command name."""

from collections.abc import Mapping
from dataclasses import replace

from study.architectures import CustomConfig, ModelConfig
from study.config import REPORT_SETTINGS, SearchConfig, fixed_search, model_config
from study.errors import require, require_known
from study.ranges import Choices


def network_of(model: str, arguments: Mapping[str, str] | None = None) -> ModelConfig:
    """The settings of the network that --model names, with these further arguments."""
    config = model_config(model)
    if not isinstance(config, CustomConfig) and not arguments:
        return config
    # Imports torch, which a message about another option need not wait for.
    from study.custom import network_settings

    values = {name: Choices.parse(text, f"--argument {name}") for name, text in (arguments or {}).items()}
    return network_settings(model, values)


def given_search(model: str, run: str, lr: str, decay: str, preset: str) -> SearchConfig | None:
    """The search of one trial at the given settings; None where --run names the trial."""
    if not (lr or decay or preset):
        return None
    require(run == "best", f"--run {run} has settings of its own: leave it out, or --lr, --decay and --preset.")
    if preset:
        require_known("preset", preset, ["report"])
        require(
            not (lr or decay), f"--preset {preset} has a learning rate and a weight decay: leave out --lr and --decay."
        )
        require(model in REPORT_SETTINGS, f"--preset {preset} is for {' and '.join(REPORT_SETTINGS)}, not for {model}.")
        return fixed_search(model, *REPORT_SETTINGS[model])
    require(bool(lr and decay), "A retraining at given settings needs both --lr and --decay.")
    return replace(fixed_search(model, lr, decay), model=network_of(model))
