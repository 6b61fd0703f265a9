"""Looks up the addresses of a name at DNS servers, by dnspython.

Takes an absolute name; returns what each family resolved to, and raises nothing. Search domains are not used. The
library checks that answers come from the server that was asked, with the number and the question of the query, and
repeats a truncated answer over TCP. It is imported at the first lookup, because it takes 5 MB.
"""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from maesh_egress.lookup import IPV4, IPV6, MISSING, NO_ADDRESS, Answer, Failure, Lookup
from maesh_egress.networks import parse_canonical
from maesh_egress.resolver_address import ResolverAddress

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver

QUERY_SHARE = 0.4
"""The share of a lookup's time for one query, so that a second server is asked in time."""
ADDRESSES_LIMIT = 256
"""Addresses of one answer that are kept; one over TCP can have thousands."""
_TYPES = {IPV4: "A", IPV6: "AAAA"}


class DnsClient:
    """Asks DNS servers; without `servers`, those of `/etc/resolv.conf`."""

    __slots__ = ("_families", "_resolver", "_servers", "_timeout_s")

    def __init__(self, servers: Sequence[ResolverAddress], *, families: str, timeout_s: float) -> None:
        self._servers = tuple(servers)
        self._families = (IPV4, IPV6) if families == "both" else (families,)
        self._timeout_s = timeout_s
        self._resolver: Resolver | None = None

    def __repr__(self) -> str:
        """Show the servers."""
        return f"<DnsClient {self._servers or '/etc/resolv.conf'}>"

    async def look_up(self, name: str) -> Lookup:
        """Look up the addresses of a name, all families at once."""
        results = await asyncio.gather(*(self._ask(name, family) for family in self._families))
        return dict(zip(self._families, results, strict=True))

    async def _ask(self, name: str, family: str) -> Answer | Failure:
        from dns.exception import DNSException, Timeout
        from dns.resolver import NXDOMAIN, NoNameservers

        try:
            resolver = self._resolver = self._resolver or self._build_resolver()
            found = await resolver.resolve(
                f"{name}.", _TYPES[family], search=False, raise_on_no_answer=False, lifetime=self._timeout_s
            )
            ttl_s = float(found.chaining_result.minimum_ttl)
            texts = [] if found.rrset is None else [record.address for record in found.rrset]
        except NXDOMAIN as error:
            return Answer((), _find_negative_ttl(error), MISSING)
        except Timeout:
            return Failure("does not answer")
        except NoNameservers:
            return Failure("answers with an error")
        except (DNSException, OSError, ValueError) as error:
            return Failure(f"failed: {type(error).__name__}")
        addresses = tuple(sorted({parse_canonical(text) for text in texts})[:ADDRESSES_LIMIT])
        return Answer(addresses, ttl_s, "" if addresses else NO_ADDRESS)

    def _build_resolver(self) -> "Resolver":
        """Build the resolver; raises dns.resolver.NoResolverConfiguration, a DNSException."""
        from dns.asyncresolver import Resolver
        from dns.nameserver import Do53Nameserver

        resolver = Resolver(configure=not self._servers)
        if self._servers:
            resolver.nameservers = [Do53Nameserver(*server) for server in self._servers]
        resolver.timeout = self._timeout_s * QUERY_SHARE
        resolver.cache = None
        return resolver


def _find_negative_ttl(error: Exception) -> float:
    """Find how long a name is known not to exist (RFC 2308); 0 if the answer does not say it."""
    responses = error.kwargs.get("responses", {}) if hasattr(error, "kwargs") else {}
    try:
        return min((float(each.resolve_chaining().minimum_ttl) for each in responses.values()), default=0.0)
    except Exception:  # an answer from DNS may be of any shape; it is not needed then
        return 0.0
