"""Loads the parent's halves of plugins: those that run services in the parent of a node's workers.

The parent imports this module only if an enabled plugin has such a half, which its package metadata says: the hooks
take 1.4 MB, and in compiled form they load the library of the engine.
"""

from collections.abc import Callable, Sequence

from maesh_core.plugin_system.loading import load_plugins
from maesh_core.plugin_system.transports import NodeService, ParentNode
from maesh_core.settings import ProxySettings


def load_node_services(settings: ProxySettings, open_parent: Callable[[str], ParentNode]) -> Sequence[NodeService]:
    """Return the services of all enabled plugins; `open_parent` returns the parent as one plugin sees it.

    Raises PluginError and SettingsError.
    """
    services: list[NodeService] = []
    for plugin in settings.plugins:
        if plugin.parent:
            loaded = load_plugins("parent", [plugin], settings.plugin_settings, origins=settings.origins)
            services += loaded.collect("maesh_node_services", parent=open_parent(plugin.name))
    return services
