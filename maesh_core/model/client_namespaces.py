"""The section `clients` of the configuration: the namespaces of clients, by address.

The section is in the document that proxies pull, if some route has rules for the clients of a namespace. An address
that pods of several namespaces have, such as that of a node, is not in it. Values only.
"""

CLIENTS = "clients"
"""The name of the section."""
SOURCES = "sources"
CLIENT_NOUNS = (SOURCES,)
