"""Says where a route and a TrafficSplit are attached to one port: the route decides, and both say so.

Takes the node of a service with what the other builders added; returns notices only. The plugin that reads splits need
not be installed: a split is recognized by the branch that it leaves, and by its kind.
"""

from maesh_core.plugin import Addition, ObjectFindings, ObjectKey, PortNode, Resource, ServiceNode, TopologyView

_SPLIT = "TrafficSplit"
_BRANCH = "split/"
"""The beginning of a branch's name; the name of the split follows, up to a colon (plugin smi)."""

_Object = tuple[type[Resource], ObjectKey]


class SplitNoticeBuilder:
    """Finds the ports that have both."""

    name = "gateway-splits"
    is_last = True

    def build(self, view: TopologyView, service: ServiceNode) -> Addition | None:
        """Build the notices; None if no port has both."""
        splits = {found.key.name: found for found in service.objects if found.type.__name__ == _SPLIT}
        texts: dict[_Object, list[str]] = {}
        notices = []
        for port in service.ports:
            routes = _list_routes(port)
            named = [splits[name] for name in _list_splits(port) if name in splits]
            if not (routes and named):
                continue
            shown_routes = ", ".join(_show(*route) for route in routes)
            shown_splits = ", ".join(_show(found.type, found.key) for found in named)
            notices.append(f"port {port.number}: {shown_routes} decides in place of {shown_splits}")
            for found in named:
                text = f"it has no effect on port {port.number}, where {shown_routes} decides"
                texts.setdefault((found.type, found.key), []).append(text)
            for route in routes:
                texts.setdefault(route, []).append(f"on port {port.number} it decides in place of {shown_splits}")
        if not texts:
            return None
        objects = (ObjectFindings(type=type_, key=key, notices=tuple(each)) for (type_, key), each in texts.items())
        return Addition(objects=tuple(objects), notices=tuple(notices))


def _list_routes(port: PortNode) -> list[_Object]:
    """List the routes for all clients of a port; consumer routes leave a split to all other clients."""
    rules = port.rules.rules if port.rules is not None else ()
    return list(dict.fromkeys(rule.origin for rule in rules if rule.origin is not None))


def _list_splits(port: PortNode) -> list[str]:
    names = (branch.name for branch in port.branches if branch.name.startswith(_BRANCH))
    return list(dict.fromkeys(name.removeprefix(_BRANCH).partition(":")[0] for name in names))


def _show(type_: type[Resource], key: ObjectKey) -> str:
    return f"{getattr(type_, 'kind', type_.__name__)} {key.name}"
