"""A search's settings as its storage keeps them: written, read, and compared with those of a command."""

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import optuna

from study.config import DETAILS, IMAGE_SIZE, RATES, SearchConfig, model_kind
from study.errors import StudyError
from study.home import SQLITE
from study.ranges import Range
from study.search.private import study_ids
from study.search.space import choices_of
from study.search.storage import open_storage, opening
from study.system.heartbeat import interval


def settings_of(config: SearchConfig, digest: str, image_size: int) -> dict[str, Any]:
    """The settings as a search keeps them: JSON makes lists of tuples, as the storage does."""
    kept = {**config.settings(), "image_size": image_size, "dataset": digest[:12]}
    return dict(json.loads(json.dumps(kept)))


def config_of(name: str, settings: Mapping[str, Any]) -> SearchConfig:
    """The config of a search from its stored settings, with the default total.

    A field that is newer than the search takes its default, with which the search was made.

    Raises:
        StudyError: for an unknown model, or a value that cannot work.
        LookupError, TypeError, AttributeError: where `settings` are not those of a search.
    """
    kind = model_kind(settings["model"], settings["model_settings"])
    # The storage keeps JSON, which turns tuples into lists.
    recorded = {
        key: tuple(value) if isinstance(value, list) else value for key, value in settings["model_settings"].items()
    }
    model: dict[str, Any] = {item.name: recorded[item.name] for item in fields(kind) if item.name in recorded}
    ranges: dict[str, Any] = {key: Range(**settings[key]) for key in RATES}
    network = kind(**model)
    choices = {key: choices_of(key, text, network) for key, text in settings.get("choices", {}).items()}
    others = {item.name for item in fields(SearchConfig)} - {"model", "choices", *DETAILS, *RATES}
    own = {key: settings[key] for key in others & settings.keys()}
    if "objectives" in own:
        own["objectives"] = tuple(own["objectives"])
    return SearchConfig(name=name, model=network, choices=choices, **ranges, **own)


def require_continuable(config: SearchConfig, storage: str, *, digest: str, image_size: int = IMAGE_SIZE) -> None:
    """Refuses other settings than those that a search of this name has begun with, as `open_search` does.

    Creates no search, but the tables of a database that has none. Raises a StudyError where the settings differ.
    """
    if storage.startswith(SQLITE) and not Path(storage.removeprefix(SQLITE)).is_file():
        return
    begun: dict[str, Any] = {}
    with opening(storage):
        database = open_storage(storage)
        try:
            if config.name in study_ids(database):
                begun = optuna.load_study(study_name=config.name, storage=database).user_attrs
        finally:
            database.engine.dispose()
    if "settings" in begun:
        require_equal(config.name, begun["settings"], settings_of(config, digest, image_size))


def require_equal(name: str, recorded: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuses settings that are not those `recorded` of the search `name`.

    Raises:
        StudyError: with what differs.
    """
    # Fields that are newer than the search take their defaults.
    before = {"image_size": IMAGE_SIZE, **recorded} | json.loads(json.dumps(config_of(name, recorded).settings()))
    differing = [key for key in now if before.get(key) != now[key]]
    if differing == ["model_settings"] and _is_same_path(before["model_settings"], now["model_settings"]):
        raise StudyError(
            f"The file of {now['model_settings']['model_path']} has changed since the search {name!r} began: restore "
            "it, or name a new one with --search."
        )
    if differing:
        was, is_now = _as_typed(before), _as_typed(now)
        names = [key for key in was | is_now if was.get(key) != is_now.get(key)]
        what = "; ".join(f"{key} was {was.get(key)}, now {is_now.get(key)}" for key in names) or ", ".join(differing)
        raise StudyError(f"The search {name!r} was started with other settings ({what}): name a new one with --search.")


def _as_typed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings in one table: a range as it is typed, what is drawn in place of its fixed value."""
    kept = {**settings, **settings["model_settings"], **settings.get("choices", {})}
    ranges = {key: f"{value['low']:g}:{value['high']:g}" for key, value in kept.items() if key in RATES}
    return {key: value for key, value in {**kept, **ranges}.items() if key not in ("model_settings", "choices")}


def _is_same_path(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    return "model_path" in now and before.get("model_path") == now["model_path"]


def require_same_heartbeat(search: optuna.Study) -> None:
    """Checks that other machines, which observe the heartbeats of this one, expect them as often."""
    now = interval()
    if (before := search.user_attrs.get("heartbeat")) is None:
        search.set_user_attr("heartbeat", now)
    elif before != now:
        raise StudyError(
            f"The search {search.study_name!r} has a heartbeat every {before:g} s, and STUDY_HEARTBEAT is {now:g}: "
            "set it to the same on all machines, or name a new --search."
        )
