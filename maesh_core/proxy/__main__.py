"""The proxy as a program: `python -m maesh_core.proxy`. `maesh proxy` executes it, `maesh up` starts it.

Takes its settings from one environment variable, which the command line writes, and runs the parent of the workers that
route traffic. To save memory, it imports nothing of the command line (23 MB), no uvloop and no engine, OpenSSL only if
the controller's URL is https or a plugin may protect the admin port, and plugins only if they have a half for this
process.
"""

import logging
import os
import signal
import sys
from types import FrameType

from maesh_core.errors import MaeshError, StartupError
from maesh_core.process.interruption import end_echoed_line
from maesh_core.process.logging_setup import configure_logging
from maesh_core.process.printable import show_line
from maesh_core.proxy.asyncio_without_tls import import_asyncio_without_tls
from maesh_core.settings.handover import PROXY_SETTINGS_VARIABLE, parse_proxy_settings

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

logger = logging.getLogger(__name__)


def main() -> int:
    """Run the proxy; return the exit status. Every failure writes one line to standard error."""
    for number in _SIGNALS:
        signal.signal(number, _end_at_once)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)  # `maesh proxy` blocks them until here
    try:
        return _run()
    except MaeshError as error:
        return _fail(str(error))
    except Exception as error:  # report any other error in one line
        logger.debug("unforeseen", exc_info=True)
        return _fail(f"the proxy failed unexpectedly: {type(error).__name__}: {error}")


def _run() -> int:
    text = os.environ.pop(PROXY_SETTINGS_VARIABLE, None)  # neither child processes nor plugins may see it
    if text is None:
        raise StartupError(f"{PROXY_SETTINGS_VARIABLE} is not set; start the proxy with: maesh proxy")
    settings = parse_proxy_settings(text)
    configure_logging(settings.log_level, settings.log_format)
    has_parent_half = any(plugin.parent for plugin in settings.plugins)
    is_admin_protected = has_parent_half and not settings.admin_clear  # perhaps: the plugin decides
    if not settings.endpoint.lower().startswith("https:") and not is_admin_protected:
        import_asyncio_without_tls()
    # Import it here, since the settings decide what asyncio imports.
    import asyncio

    from maesh_core.proxy.node.run import run_proxy

    if not has_parent_half:
        return asyncio.run(run_proxy(settings))

    from maesh_core.proxy.parent_plugins import load_node_services

    return asyncio.run(run_proxy(settings, load_services=load_node_services))


def _end_at_once(signum: int, frame: FrameType | None) -> None:
    """Exit with status 0 on a signal that arrives before the proxy handles signals: nothing is running yet."""
    del frame
    end_echoed_line(signum)
    os._exit(0)


def _fail(text: str) -> int:
    sys.stderr.write(f"maesh: error: {show_line(text)}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
