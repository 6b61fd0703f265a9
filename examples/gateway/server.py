"""The demo server: answers every request with the name of the version that runs at the address it arrived at.

Listens on the addresses that gateway.yaml gives the three pods. /slow takes three seconds. /copies says how many other
requests the version has got; for `next` these are copies.
"""

import time
from collections import Counter

from serving import TextHandler, TextServer, start

VERSIONS = {"127.0.5.1": "v1", "127.0.5.2": "v2", "127.0.5.3": "next"}
ADDRESSES = tuple((address, 8805) for address in VERSIONS)
SLOW_S = 3.0
COUNTS: Counter[str] = Counter()
"""How many requests each version has got."""


class VersionHandler(TextHandler):
    """Tells the client which version it met."""

    def do_GET(self) -> None:  # noqa: N802 - http.server names it so
        """Answer with one line."""
        version = VERSIONS[self.connection.getsockname()[0]]
        if self.path == "/copies":
            self.answer(f"{version} has got {COUNTS[version]} requests\n")
            return
        COUNTS[version] += 1
        if self.path.startswith("/slow"):
            time.sleep(SLOW_S)
        self.answer(f"{version}\n")


def start_servers() -> list[TextServer]:
    """Serve every address."""
    return start(lambda address: TextServer(address, VersionHandler), ADDRESSES)
