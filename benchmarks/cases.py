"""What is asked of every proxy: the rows of the comparison, in the order in which they are measured.

Values only. A case that holds a rate needs the row `small` measured before it: its rate is a share of nginx's there.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Case:
    """One load. `length` is the size of the body, which `method` puts in the request or in the response.

    `route` is the service that is asked for, and `only` names the proxies that have it, all when it is empty. Cases
    with the same `beside` are measured in turns, because each of them is compared with the first one. The proxy sends
    copies of `copied_share` of the requests to the same servers.
    """

    name: str
    title: str
    method: str = "GET"
    target: str = "/"
    length: int = 0
    targets: int = 1
    connections: int = 64
    is_closed: bool = False
    route: str = "bench"
    only: tuple[str, ...] = ()
    beside: str = ""
    rate_share: float = 0.0
    copied_share: float = 0.0

    @property
    def host(self) -> str:
        """Return the host of its route."""
        return build_host(self.route)

    @property
    def is_stamped(self) -> bool:
        """Return whether a header is stamped on what passes."""
        return self.route == "stamped"

    @property
    def is_paced(self) -> bool:
        """Return whether all proxies are offered the same rate."""
        return self.rate_share > 0

    @property
    def sent_length(self) -> int:
        """Return the length of a request's body."""
        return self.length if self.method == "POST" else 0


def build_host(route: str) -> str:
    """Build the host that means a route."""
    return f"{route}.bench.maesh"


KIB, MIB = 1024, 1024 * 1024
WITH_MIDDLEWARES = ("maesh", "traefik", "traefik-fast")

CASES = (
    Case(name="small", title="small GET, all requests alike"),
    Case(name="varied", title="small GET, 10,000 targets, headers' values differ", targets=10_000),
    Case(name="stamped", title="small GET, a header stamped both ways", route="stamped"),
    Case(name="paced", title="small GET at the same offered rate, half of nginx's maximum", rate_share=0.5),
    Case(name="conn-512", title="small GET, 512 connections", connections=512),
    Case(name="conn-2000", title="small GET, 2,000 connections", connections=2000),
    Case(name="conn-new", title="small GET, a new connection for each", is_closed=True),
    Case(name="down-4k", title="4 KiB down", target="/4k", length=4 * KIB),
    Case(name="up-4k", title="4 KiB up", method="POST", target="/up", length=4 * KIB),
    Case(name="paced-4k", title="4 KiB down at that same rate", target="/4k", length=4 * KIB, rate_share=0.5),
    Case(name="down-1m", title="1 MiB down, 16 connections", target="/1m", length=MIB, connections=16),
    Case(name="up-1m", title="1 MiB up, 16 connections", method="POST", target="/up", length=MIB, connections=16),
    *(
        Case(name=route, title=f"small GET, {title}", route=route, only=WITH_MIDDLEWARES, beside="bare")
        for route, title in (
            ("bare", "no middleware"),
            ("retry", "with retries"),
            ("limit", "with a rate limit"),
            ("breaker", "with a circuit breaker"),
            ("guarded", "with all three"),
        )
    ),
    Case(
        name="mirrored",
        title="small GET, with copies of 10 %",
        route="mirrored",
        only=("maesh",),
        beside="bare",
        copied_share=0.1,
    ),
    *(
        Case(name=route, title=title, targets=10_000, route=route, only=WITH_MIDDLEWARES, beside="any")
        for route, title in (
            ("any", "10,000 targets, no middleware"),
            ("sources", "10,000 targets, a rate limit for each of 10,000 clients"),
        )
    ),
)
