"""Imports asyncio without ssl, as if Python had been built without OpenSSL, for a process that uses no TLS.

`import asyncio` imports ssl if it exists, which maps OpenSSL: 5 MB in every process. asyncio supports running without
it (`except ImportError` in base_events, selector_events and sslproto), so this module hides ssl during the import. ssl
can be imported later; asyncio then still refuses TLS, with a RuntimeError.
"""

import sys


def import_asyncio_without_tls() -> bool:
    """Import asyncio without ssl, unless either was imported before; return whether asyncio has no ssl."""
    if "asyncio" not in sys.modules and "ssl" not in sys.modules:
        sys.modules["ssl"] = None  # type: ignore[assignment]  # what makes `import ssl` an ImportError
        try:
            import asyncio  # noqa: F401
        finally:
            del sys.modules["ssl"]
    return "ssl" not in sys.modules
