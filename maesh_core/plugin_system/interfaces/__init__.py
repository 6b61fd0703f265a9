"""The interfaces of the objects that a process passes to plugins, except for those of the worker itself (node.py).

hookspecs/ has the hooks, and the interfaces of the objects that plugins return. Plugins import all of them from
`maesh_core.plugin`. Declares, and does nothing.
"""

from maesh_core.plugin_system.interfaces.bodies import BodyTap, BodyTransform, BodyUse, WholeBody
from maesh_core.plugin_system.interfaces.connection import Connection
from maesh_core.plugin_system.interfaces.exchange import BackendChoice, Exchange
from maesh_core.plugin_system.interfaces.explaining import Question, Verdict
from maesh_core.plugin_system.interfaces.messages import ClientHead, Headers, ReadableHeaders, Response
from maesh_core.plugin_system.interfaces.servers import BalancedServer
from maesh_core.plugin_system.interfaces.views import ResourceT, TopologyView, View

__all__ = [
    "BackendChoice",
    "BalancedServer",
    "BodyTap",
    "BodyTransform",
    "BodyUse",
    "ClientHead",
    "Connection",
    "Exchange",
    "Headers",
    "Question",
    "ReadableHeaders",
    "ResourceT",
    "Response",
    "TopologyView",
    "Verdict",
    "View",
    "WholeBody",
]
