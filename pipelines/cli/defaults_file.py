"""Option values from a TOML file: `--config FILE`, or `[tool.study]` of the current folder's pyproject.toml.

A key is an option's name without its dashes. Keys at the top are for every command that has such an option; those of a
table with a command's name, e.g. `[tune]`, are for that command alone, and win. Options on the command line and
environment variables win over the file.
"""

import os
import sys
import tomllib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import typer

from study.errors import StudyError, first_line, unknown

PYPROJECT = "pyproject.toml"

Options = Mapping[str, Mapping[str, Any]]
"""By command: typer's options, by their names without the dashes in front."""


def apply(context: typer.Context, config: str) -> None:
    """Gives the command that is run its values from the file, and says which; arguments as of `read`."""
    commands: Mapping[str, Any] = context.command.commands  # type: ignore[attr-defined]
    options = {
        name: {option.opts[0].lstrip("-"): option for option in command.params if option.opts[0].startswith("--")}
        for name, command in commands.items()
    }
    path, context.default_map = read(config, options)
    command = str(context.invoked_subcommand)
    values = context.default_map.get(command, {})
    given = {key: values[option.name] for key, option in options[command].items() if option.name in values}
    used = {key: value for key, value in given.items() if not _is_set(options[command][key])}
    if used and not used.get("quiet") and not ("quiet" in options[command] and _is_set(options[command]["quiet"])):
        from pipelines.session.lines import say

        text = ", ".join(f"{key} {value}" for key, value in used.items())
        # Not among the output, which may be JSON.
        say(f"Settings from {path}: {text}.", sys.stderr)


def _is_set(option: Any) -> bool:
    """Whether an option is given on the command line or by its environment variable, which win over the file."""
    return bool(os.environ.get(option.envvar)) or any(word.partition("=")[0] in option.opts for word in sys.argv)


def read(config: str, options: Options) -> tuple[Path | None, dict[str, dict[str, Any]]]:
    """Reads option values.

    Args:
        config: path of the TOML file; empty for the current folder's pyproject.toml, where that has them.
        options: the options that there are.

    Returns:
        The file, None where there is none, and by command the value of each parameter that it sets.

    Raises:
        StudyError: where the file cannot be read, or sets what is no option.
    """
    path = Path(config or PYPROJECT).expanduser()
    if not config and not path.is_file():
        return None, {}
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or "").lower() or first_line(error)
        raise StudyError(f"The settings in {path} cannot be read ({reason}).") from None
    if path.name == PYPROJECT:
        content = content.get("tool", {}).get("study", {})
    return (path, _by_command(content, options, path)) if content else (None, {})


def _by_command(content: Mapping[str, Any], options: Options, path: Path) -> dict[str, dict[str, Any]]:
    tables = {key: value for key, value in content.items() if isinstance(value, dict)}
    shared = {key: value for key, value in content.items() if key not in tables}
    _require_known(shared, sorted({name for names in options.values() for name in names}), f"key in {path}")
    _require_known(tables, options, f"table in {path}")
    for command, table in tables.items():
        _require_known(table, options[command], f"key of {command} in {path}")
    return {
        command: {
            of_command[_dashed(key)].name: _as_typed(key, value, of_command[_dashed(key)], path)
            for key, value in {**shared, **tables.get(command, {})}.items()
            if _dashed(key) in of_command
        }
        for command, of_command in options.items()
    }


def _require_known(keys: Iterable[str], known: Collection[str], what: str) -> None:
    for key in keys:
        if _dashed(key) not in known:
            raise unknown(what, key, known)


def _dashed(key: str) -> str:
    return key.replace("_", "-")


def _as_typed(key: str, value: Any, option: Any, path: Path) -> Any:
    """The value as it would be typed on the command line, so that it is checked as such."""
    if option.is_flag != isinstance(value, bool):
        kind = "true or false" if option.is_flag else "a number or a text"
        raise StudyError(f"{key} in {path} is {value!r}: it must be {kind}.")
    if option.multiple:
        return [str(each) for each in (value if isinstance(value, list) else [value])]
    if isinstance(value, list):
        return ",".join(map(str, value))
    return value if isinstance(value, bool) else str(value)
