"""asyncio, imported as where Python was built without OpenSSL, for a process that speaks no TLS.

`import asyncio` imports ssl if there is one, which maps OpenSSL: 5 MB in every process. asyncio does without it by
design (`except ImportError` in base_events, selector_events and sslproto), so here it finds none. The module ssl
itself can be imported afterwards; asyncio then still refuses TLS, with a RuntimeError.
"""

import sys


def import_asyncio_without_tls() -> bool:
    """Import asyncio without ssl, unless one of the two is imported already; say whether asyncio is without it now."""
    if "asyncio" not in sys.modules and "ssl" not in sys.modules:
        sys.modules["ssl"] = None  # type: ignore[assignment]  # what makes `import ssl` an ImportError
        try:
            import asyncio  # noqa: F401
        finally:
            del sys.modules["ssl"]
    return "ssl" not in sys.modules
