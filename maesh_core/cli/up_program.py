"""`maesh up` as a program: a whole mesh on this machine, in front until Ctrl-C. Started by `maesh up` alone.

What runs is imported by `run`: a signal that comes meanwhile already ends the program.
"""

import sys

from maesh_core.cli.programs import run_program
from maesh_core.settings import UpSettings


def main() -> int:
    """Run the program; give the exit status."""
    return run_program(UpSettings, run)


def run(settings: UpSettings) -> None:
    """Run a whole mesh on this machine until Ctrl-C. Raises MaeshError."""
    from maesh_core.cli.running import run_until_signalled
    from maesh_core.cli.up_running import Mesh
    from maesh_core.logging_setup import configure_logging
    from maesh_core.plugin_loading import load_plugins

    configure_logging(settings.log_level, settings.log_format)
    plugins = load_plugins("controller", settings.plugins, settings.plugin_settings, origins=settings.origins)
    mesh = Mesh(settings, plugins, _print)
    run_until_signalled(
        mesh.run, on_abort=mesh.abort, on_interrupt=mesh.note_interrupt, describe_wait=mesh.describe_wait
    )


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - what was asked for


if __name__ == "__main__":
    sys.exit(main())
