"""The sections of the configuration that are no protocol's: one description of each, for the controller and proxies.

The document that proxies pull has such a section only if the controller needs it. Its entries belong to no service.
They are sorted by noun and then by key, as the objects of a protocol are. Values only.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

PROTOCOL_NOUNS: Final = ("routers", "services", "middlewares")
"""The nouns of the section of a protocol."""


class SectionForm(msgspec.Struct, frozen=True, kw_only=True):
    """The form of a section: its name in the document, and the nouns of its entries.

    A noun of `rare_nouns` is left out while it has no entry.
    """

    name: str
    nouns: tuple[str, ...]
    rare_nouns: tuple[str, ...] = ()


TRANSPORT: Final = "transport"
"""The nodes that take part in the transport, by name, as it describes them; clients that guards refer to, by address;
and what the transport sends to the parents of all nodes, by its name, which workers ignore."""
NODES: Final = "nodes"
TRANSPORT_CLIENTS: Final = "clients"
SHARED: Final = "shared"

PODS: Final = "pods"
"""The names of pods by address, if a plugin of the controller asks for them. Proxies use them to name clients in what
they write about traffic, and never to decide about traffic."""
ADDRESSES: Final = "addresses"

CLIENTS: Final = "clients"
"""The namespaces of clients by address: of namespaces whose clients have rules of their own, and, if a plugin asks for
them, of all that have HTTP services, because a host name without a dot means a service of the client's namespace. An
address that pods of several namespaces have, such as that of a node, is not in it."""
SOURCES: Final = "sources"

SECTION_FORMS: Final[Mapping[str, SectionForm]] = {
    form.name: form
    for form in (
        SectionForm(name=TRANSPORT, nouns=(NODES, TRANSPORT_CLIENTS, SHARED), rare_nouns=(SHARED,)),
        SectionForm(name=PODS, nouns=(ADDRESSES,)),
        SectionForm(name=CLIENTS, nouns=(SOURCES,)),
    )
}
"""All of them, by name."""
