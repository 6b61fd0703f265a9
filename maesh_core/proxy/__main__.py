"""The proxy as a program: `python -m maesh_core.proxy`, which `maesh proxy` becomes and `maesh up` starts.

Takes its settings from one environment variable, as the command line wrote them, and is the parent of the workers that
carry the traffic. Imports nothing of the command line, which would cost 39 MB, neither uvloop nor plugins nor the
engine, and OpenSSL only where the controller is asked over TLS.
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
    """Run the proxy; give the exit status. Every failure ends with one line on standard error."""
    for number in _SIGNALS:
        signal.signal(number, _end_at_once)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)  # `maesh proxy` holds them back until here
    try:
        return _run()
    except MaeshError as error:
        return _fail(str(error))
    except Exception as error:  # the proxy's edge
        logger.debug("unforeseen", exc_info=True)
        return _fail(f"the proxy ended on an error of its own: {type(error).__name__}: {error}")


def _run() -> int:
    text = os.environ.pop(PROXY_SETTINGS_VARIABLE, None)  # not for child processes, nor for plugins
    if text is None:
        raise StartupError(f"{PROXY_SETTINGS_VARIABLE} is not set; the proxy is started by: maesh proxy")
    settings = parse_proxy_settings(text)
    configure_logging(settings.log_level, settings.log_format)
    if not settings.endpoint.lower().startswith("https:"):
        import_asyncio_without_tls()
    # Here, since what asyncio imports depends on the settings.
    import asyncio

    from maesh_core.proxy.node.run import run_proxy

    return asyncio.run(run_proxy(settings))


def _end_at_once(signum: int, frame: FrameType | None) -> None:
    """End with status 0 on a signal that comes before the proxy follows them: nothing is running yet."""
    del frame
    end_echoed_line(signum)
    os._exit(0)


def _fail(text: str) -> int:
    sys.stderr.write(f"maesh: error: {show_line(text)}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
