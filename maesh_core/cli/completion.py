"""Shell completion: prints or installs the script of a shell, and answers the queries of that script.

The scripts come from typer. When a user presses Tab, they run `maesh` with `_MAESH_COMPLETE` set. The command line then
prints candidates instead of running a command. No other command loads this module.
"""

import typer
from typer.completion import completion_init, get_completion_script, install  # type: ignore[attr-defined]

from maesh_core.cli.programs import COMPLETION_VARIABLE, PROGRAM
from maesh_core.errors import MaeshError

SHELLS = ("bash", "zsh", "fish")


def prepare_answer() -> None:
    """Register the answer format of each shell, which typer looks up by the variable's value."""
    completion_init()


def render_script(shell: str) -> str:
    """Render the script that a shell runs to complete `maesh`. Raises typer.BadParameter for an unknown shell."""
    if shell not in SHELLS:
        raise typer.BadParameter(f"{shell!r} is not one of {', '.join(SHELLS)}", param_hint="--show-completion")
    return get_completion_script(prog_name=PROGRAM, complete_var=COMPLETION_VARIABLE, shell=shell)


def install_script() -> str:
    """Install the script for the shell that runs this command; returns a line for the user.

    Raises MaeshError if the shell is not supported or a file cannot be written.
    """
    try:
        shell, path = install(prog_name=PROGRAM, complete_var=COMPLETION_VARIABLE)
    except typer.Exit as error:
        raise MaeshError(
            "completion cannot be installed: this command was not started from bash, zsh or fish;"
            " maesh --show-completion SHELL prints the script of a shell"
        ) from error
    except OSError as error:
        raise MaeshError(f"completion cannot be installed: {error.filename}: {error.strerror}") from error
    return f"Completion for {shell} is installed in {path}. It takes effect in the next shell that you start."
