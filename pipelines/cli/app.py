"""The command `study`, and how its failures are reported. Heavy imports wait until a command needs them."""

import gc
import os
import re
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import typer

from pipelines.cli import defaults_file, options, stages, store, training
from pipelines.cli.variables import variable_of, variables_behind
from pipelines.session.isolation import SPINS, invalid_variable, isolate, limit_spinning, say_starting, tolerant_output
from study.config import BUNDLED
from study.errors import StudyError, require
from study.home import default_home
from study.system import interruption
from study.system.debugging import show_if_debugging
from study.system.redaction import one_line, redacted
from study.system.torchrun import rank, world_size

app = typer.Typer(
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    help="Search, retrain and look into the networks of “Tracing the Convolutions of a CNN”, every run tracked.",
    epilog="Options can also be set by environment variables (--trials by STUDY_TRIALS) or in a file (--config). "
    "STUDY_DEBUG=1 shows the traceback of any failure. Start with `study reproduce --dataset digits`.",
)
COMMANDS: Sequence[Callable[..., None]] = (
    stages.data,
    training.tune,
    training.retrain,
    stages.analyse,
    stages.explain,
    stages.predict,
    training.experiment,
    training.reproduce,
)
"""The commands of the stages, as the help lists them."""
for command in COMMANDS:
    app.command()(command)
app.add_typer(store.app)
INTERRUPTED = 130
"""The exit code that typer makes of a KeyboardInterrupt."""


@app.callback()
def settings(context: typer.Context, config: options.Config = "", version: options.Version = False) -> None:
    """Takes the settings of all commands."""
    # The ablation's many short steps on a busy machine took six times as long with threads that spin (2 cores, 3 busy
    # processes).
    limit_spinning(0 if context.invoked_subcommand == "analyse" else SPINS)
    defaults_file.apply(context, config)
    command = str(context.invoked_subcommand)
    require(
        world_size() == 1 or command == "retrain",
        f"torchrun has started {world_size()} processes of study {command}: it is for study retrain.",
    )
    if not rank():
        say_starting(command)


def main() -> None:
    """Runs the command; an error that the user can fix is one sentence and exit code 2."""
    # Imports make objects that stay: with the default of 10, full collections take a fifth of a short command's time.
    gc.set_threshold(700, 10, 100)
    # A copy, before MLflow sets variables of its own.
    environment = dict(os.environ)
    with interruption.signals_noted():
        isolate()
        with tolerant_output() as output:
            code = _run(environment)
    if output.failure and not code:
        code = _say_error(f"The output could not be written: {output.failure}.", {})
    sys.exit(code)


def _run(environment: Mapping[str, str]) -> int:
    """Runs the command and returns its exit code."""
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
        if code == INTERRUPTED:
            print(interruption.STOPPED, file=sys.stderr)
            code = 128 + (interruption.requested() or signal.SIGINT)
    except StudyError as error:
        show_if_debugging(error)
        code = _say_error(str(error), environment)
    except typer.TyperException as error:
        show_if_debugging(error)
        code = _say_error(_explained(error) + variable_of(error, environment), environment)
    except typer.Abort:
        code = INTERRUPTED
    except Exception as error:
        from study.system.faults import explanation

        explained = explanation(error, os.environ.get("STUDY_HOME") or default_home().root)
        if explained:
            show_if_debugging(error)
            code = _say_error(str(explained), environment)
        elif invalid := invalid_variable(error):
            show_if_debugging(error)
            code = _say_error(invalid, environment)
        else:
            # A bug; its traceback may quote the address of a store.
            print(redacted(traceback.format_exc()), end="", file=sys.stderr)
            code = 1
    return code or 0


def _explained(error: typer.TyperException) -> str:
    """What typer says; beside an unknown command those that there are, and where an option of `study` itself goes."""
    context: Any = getattr(error, "ctx", None)
    if context and "No such command" in error.message:
        return f"{error.message} Choose one of {', '.join(context.command.commands)}."
    option = getattr(error, "option_name", "")
    if context and context.parent and any(option in each.opts for each in context.parent.command.params):
        is_last = option in ("--version", "--install-completion", "--show-completion")
        return f"{option} goes before the command: `study {option}{'' if is_last else f' … {context.info_name}'}`."
    is_unknown = bool(context) and "No such option" in error.message
    if is_unknown and not context.parent and (names := _commands_with(option, context.command)):
        return f"{option} goes after the command, e.g. `study {names[0]} {option}`."
    if context and (context.info_name, option) == ("predict", "--image-size"):
        return f"predict has no {option}: photos are resized to the size that the run was trained on."
    if is_unknown and context.parent and (names := _commands_with(option, context.parent.command)):
        others = " or ".join(f"`study {name}`" for name in names[:3]) + (", and others" if len(names) > 3 else "")
        return f"{option} is none of {context.info_name}'s: it goes with {others}."
    if context and (extra := re.fullmatch(r"Got unexpected extra argument\(?s?\)? \((.*)\)", error.format_message())):
        return f"study {context.info_name} takes no {extra[1]!r} without an option{_meant(context.command, extra[1])}."
    if context and error.format_message().startswith("Missing"):
        return f"{error.format_message()} `study {context.info_name} --help` explains it."
    return error.format_message()


def _meant(command: Any, word: str) -> str:
    """The option that a `word` without one probably belongs to."""
    options = [option for each in command.params for option in each.opts]
    # Unlike a Path's methods, they take any text.
    is_dataset = word in BUNDLED or os.path.exists(os.path.expanduser(word)) or "--run" not in options  # noqa: PTH110, PTH111
    meant = "--dataset" if is_dataset else "--run"
    return f": write {meant} {shlex.quote(word)}" if meant in options else ""


def _commands_with(option: str, group: Any) -> list[str]:
    """The commands of `group` that have this option."""
    return [name for name, command in group.commands.items() if any(option in each.opts for each in command.params)]


def _say_error(text: str, environment: Mapping[str, str]) -> int:
    # Imports rich, which a command that succeeds may not need.
    from pipelines.session.lines import say

    say(f"study: {one_line(text)}{variables_behind(text, environment)}", sys.stderr)
    return 2
