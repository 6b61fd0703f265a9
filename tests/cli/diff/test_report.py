"""The text of a difference is for people: changes of access first, each with what was and what is."""

from maesh_core.cli.diff.report import ENTRIES_SHOWN, render_diff
from maesh_core.controller.comparing.changes import (
    AccessChange,
    Example,
    LimitChange,
    MeshDiff,
    PortChange,
    Result,
    RouteChange,
    UnclearChange,
)

EXAMPLE = Example(client="*", service="shop/app", port="80/tcp", method="GET", path="/a", headers=(("x", "1"),))
ALLOWED = Result(outcome="allowed", goes_to={"shop/app:80": 0.125}, by=("TrafficTarget one allows it",))
DENIED = Result(outcome="denied", status=403, by=("denied: no rule", "nothing else"))
ACCESS = AccessChange(
    change="closes",
    level="info",
    service="shop/app",
    port="80/tcp",
    clients=("*", "shop/web"),
    example=EXAMPLE,
    old=ALLOWED,
    new=DENIED,
    requests=("PUT /a",),
)


def render(**changes):
    return render_diff(MeshDiff(old="a", new="b", **changes)).splitlines()


def test_a_change_of_access_names_clients_port_request_and_both_results():
    assert render(access=(ACCESS,)) == [
        "Access",
        "  closed  every other client, shop/web -> shop/app:80  GET /a x: 1",
        "    was  goes to shop/app:80 12.50% (TrafficTarget one allows it)",
        "    now  denied 403: no rule; nothing else",
        "    also PUT /a",
        "",
        "1 closed",
    ]


def test_routes_limits_ports_and_unclear_changes_follow():
    route = RouteChange(
        service="shop/app",
        port="53/udp",
        example=Example(client="ops/x", service="shop/app", port="53/udp"),
        old=Result(outcome="absent"),
        new=Result(outcome="unserved", by=("no server is ready",)),
        is_every=True,
    )
    limit = LimitChange(
        service="shop/app", port="80/tcp", example=EXAMPLE, removed=("a: 1",), added=("a: 2",), is_every=True
    )
    port = PortChange(change="added", service="shop/b", port="80/tcp", traffic_type="http")
    unclear = UnclearChange(service="shop/b", port="80/tcp", text="routes differ")
    assert render(routes=(route,), limits=(limit,), ports=(port,), unclear=(unclear,)) == [
        "Routes",
        "  shop/app:53/udp  connections  from namespace ops",
        "    was  there is no such port",
        "    now  unserved: no server is ready",
        "",
        "Limits",
        "  shop/app:80  GET /a x: 1",
        "    -  a: 1",
        "    +  a: 2",
        "    every request",
        "",
        "Ports",
        "  + shop/b:80  http",
        "",
        "Unclear",
        "  shop/b:80",
        "    routes differ",
        "",
        "1 route changed, 1 limit changed, 1 port added or removed, 1 unclear",
    ]


def test_many_changes_are_cut_and_control_characters_escaped():
    lines = render(access=(ACCESS,) * (ENTRIES_SHOWN + 2), problems={"old": {"a\x1b.yaml": "not\nread"}})
    assert "  ... and 2 more, see --json" in lines
    assert lines[-1].startswith(f"{ENTRIES_SHOWN + 2} closed")
    assert "  old: a\\x1b.yaml: not read" in lines
