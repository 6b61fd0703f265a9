"""The proxy's half: draws which requests are copied, collects their bodies, and asks the proxy to send the copies.

A request is never delayed: its body is collected while it is forwarded, and the copy is sent after it. The proxy limits
the copies in progress; this module limits the bodies that are being collected.
"""

import random
from collections.abc import Sequence
from typing import Final

from maesh_core.plugin import ClientHead, Exchange, MetricFamily, Middleware, cut_port_key
from maesh_mirror.settings import Mirror, Mirrors

COLLECTED_LIMIT_BYTES: Final = 16 * 2**20
"""The bodies that a worker collects at the same time, of all services."""
TOO_LARGE: Final = "body-too-large"
NO_MEMORY: Final = "no-memory"
INCOMPLETE: Final = "body-incomplete"


class Collecting:
    """What a worker collects, and why copies were left out."""

    def __init__(self) -> None:
        self.bytes = 0
        self.counts: dict[tuple[str, str], int] = {}

    def __repr__(self) -> str:
        return f"<Collecting {self.bytes} bytes>"

    def count(self, service: str, reason: str) -> None:
        """Count a request whose body cannot be copied."""
        key = (cut_port_key(service), reason)
        self.counts[key] = self.counts.get(key, 0) + 1


class Collector:
    """Collects the body of one request, and asks for its copies when the body is complete. A `BodyTap`."""

    def __init__(self, exchange: Exchange, keys: Sequence[str], limit_bytes: int, collecting: Collecting) -> None:
        self._exchange: Exchange | None = exchange
        self._keys, self._limit_bytes = keys, limit_bytes
        self._collecting = collecting
        self._parts: list[bytes] = []
        self._size = 0

    def __repr__(self) -> str:
        return f"<Collector of {self._size} bytes for {self._keys}>"

    def observe(self, data: bytes) -> None:
        """Keep bytes of the body, unless they exceed a limit."""
        if self._exchange is None:
            return
        size = len(data)
        if self._size + size > self._limit_bytes:
            self._give_up(TOO_LARGE)
        elif self._collecting.bytes + size > COLLECTED_LIMIT_BYTES:
            self._give_up(NO_MEMORY)
        else:
            self._parts.append(data)
            self._size += size
            self._collecting.bytes += size

    def end(self, *, is_complete: bool) -> None:
        """Send the copies if the body is complete."""
        exchange = self._exchange
        if exchange is None:
            return
        if not is_complete:
            self._give_up(INCOMPLETE)
            return
        body = b"".join(self._parts)
        self._release()
        for key in self._keys:
            exchange.send_copy(key, body)

    def _give_up(self, reason: str) -> None:
        if self._exchange is not None:
            self._collecting.count(self._exchange.service, reason)
        self._release()

    def _release(self) -> None:
        self._exchange = None  # the exchange refers to this object, too
        self._parts = []
        self._collecting.bytes -= self._size
        self._size = 0


class Mirroring(Middleware):
    """The mirrors of one service or rule.

    `_drawn` are the mirrors that `skips_request` has drawn for the next call of `on_request`; None if it was not
    called. `_waiting` are those of requests whose body follows.
    """

    def __init__(self, settings: Mirrors, collecting: Collecting) -> None:
        self._mirrors = settings.mirrors
        self._body_limit = settings.body_limit
        self._collecting = collecting
        self._only_share = settings.mirrors[0].share if len(settings.mirrors) == 1 else 0.0
        """The share of the only mirror, which is drawn in half of the time; 0 if there are several."""
        self._drawn: Sequence[Mirror] | None = None
        self._waiting: dict[Exchange, Sequence[Mirror]] = {}

    def __repr__(self) -> str:
        return f"<Mirroring to {', '.join(each.name for each in self._mirrors)}>"

    def _draw(self) -> Sequence[Mirror]:
        """Draw the mirrors that get a copy of a request, independently of each other."""
        if self._only_share:
            return self._mirrors if random.random() < self._only_share else ()  # noqa: S311 - not for cryptography
        return [each for each in self._mirrors if random.random() < each.share]  # noqa: S311

    def skips_request(self, head: ClientHead) -> bool:
        """Let a request pass that is not copied."""
        self._drawn = self._draw()
        return not self._drawn

    def on_request(self, exchange: Exchange) -> None:
        """Ask for the copies of a request without body; those of others wait for it."""
        drawn, self._drawn = self._drawn, None
        if drawn is None:
            drawn = self._draw()
        if not drawn:
            return
        if exchange.has_body:
            self._waiting[exchange] = drawn
        else:
            for key in _list_keys(drawn, exchange):
                exchange.send_copy(key, b"")

    def on_request_body(self, exchange: Exchange) -> Collector | None:
        """Collect a body that is copied."""
        drawn = self._waiting.pop(exchange, None)
        if not drawn:
            return None
        declared = exchange.client_headers.get(b"content-length")
        if declared is not None and int(declared) > self._body_limit:
            self._collecting.count(exchange.service, TOO_LARGE)
            return None
        return Collector(exchange, _list_keys(drawn, exchange), self._body_limit, self._collecting)

    def on_finished(self, exchange: Exchange) -> None:
        """Forget a request that was answered before its body was used."""
        if self._waiting:
            self._waiting.pop(exchange, None)


def _list_keys(mirrors: Sequence[Mirror], exchange: Exchange) -> list[str]:
    """List the side services of the request's service port."""
    return [each.keys[exchange.service] for each in mirrors if exchange.service in each.keys]


class MirrorFactory:
    """Builds the middleware of each service or rule with mirrors."""

    kind = "mirror"
    settings_type = Mirrors

    def __init__(self) -> None:
        self._collecting = Collecting()

    def build_middleware(self, settings: Mirrors, service: str) -> Mirroring:
        """Build the middleware of one service or rule."""
        return Mirroring(settings, self._collecting)

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Read the counters."""
        return [
            MetricFamily(
                name="maesh_mirror_skipped",
                type="counter",
                help="Requests that were not copied because of their body, by service and reason.",
                labels=("service", "reason"),
                samples=[(key, float(count)) for key, count in sorted(self._collecting.counts.items())],
            )
        ]
