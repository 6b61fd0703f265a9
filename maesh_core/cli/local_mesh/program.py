"""The program of `maesh up`: a mesh on this machine, in the foreground until Ctrl-C. Only `maesh up` starts it.

`run` imports the rest, so that a signal during the imports already ends the program.
"""

import logging
import sys

from maesh_core.cli.programs import run_program
from maesh_core.process.printable import show_lines
from maesh_core.settings import UpSettings


def main() -> int:
    """Run the program and return the exit status."""
    return run_program(UpSettings, run)


def run(settings: UpSettings) -> None:
    """Run a mesh on this machine until Ctrl-C. Raises MaeshError."""
    from maesh_core.cli.local_mesh.findings import HeldFindings, is_one_terminal
    from maesh_core.cli.local_mesh.running import Mesh
    from maesh_core.cli.running import run_until_signalled
    from maesh_core.plugin_system.loading import load_plugins
    from maesh_core.process.logging_setup import configure_logging
    from maesh_core.process.open_files import raise_open_files_limit

    configure_logging(settings.log_level, settings.log_format)
    raise_open_files_limit()
    plugins = load_plugins("controller", settings.plugins, settings.plugin_settings, origins=settings.origins)
    findings = HeldFindings()
    if is_one_terminal() and not settings.json:
        findings.begin(logging.getLogger().handlers)
    mesh = Mesh(settings, plugins, _print, findings=findings)
    run_until_signalled(
        mesh.run, on_abort=mesh.abort, on_interrupt=mesh.note_interrupt, describe_wait=mesh.describe_wait
    )


def _print(text: str) -> None:
    print(show_lines(text), flush=True)  # noqa: T201 - what was asked for


if __name__ == "__main__":
    sys.exit(main())
