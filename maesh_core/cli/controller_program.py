"""The program of `maesh controller`: serves the configuration until it is stopped. Only `maesh controller` starts it.

`run` imports the rest, so that a signal during the imports already ends the program.
"""

import sys
from typing import TYPE_CHECKING

from maesh_core.cli.programs import run_program
from maesh_core.settings import ControllerSettings

if TYPE_CHECKING:
    import asyncio


def main() -> int:
    """Run the program and return the exit status."""
    return run_program(ControllerSettings, run)


def run(settings: ControllerSettings) -> None:
    """Compute the configuration and serve it to proxies. Raises MaeshError."""
    from maesh_core.cli.running import run_until_signalled
    from maesh_core.controller.run import run_controller
    from maesh_core.plugin_system.loading import load_plugins
    from maesh_core.process.logging_setup import configure_logging
    from maesh_core.process.open_files import raise_open_files_limit

    configure_logging(settings.log_level, settings.log_format)
    raise_open_files_limit()
    plugins = load_plugins("controller", settings.plugins, settings.plugin_settings, origins=settings.origins)

    async def serve(stop: "asyncio.Event") -> None:
        await run_controller(settings, plugins, ready=None, stop=stop)

    run_until_signalled(serve, describe_wait=lambda: "waiting for the controller to finish its responses and writes")


if __name__ == "__main__":
    sys.exit(main())
