"""Scripts of updates against recording handlers: what each table holds, and what stays untouched."""

import msgspec
import pytest

from maesh_core.errors import UpdateRejectedError
from maesh_core.model.configuration import HttpRouter, Section
from maesh_core.model.messages import Update
from maesh_core.proxy.routing.wanted_entrypoint import WantedEntrypoint

from .recording_proxy import BASE, Proxy, router, service, stamp


def test_a_full_configuration_sets_the_whole_table_of_every_handler() -> None:
    proxy = Proxy()
    proxy.apply(full=True, sections={"http": BASE})
    section, middlewares, changed = proxy.http.compiled[0]
    assert (section, changed) == (BASE, None)
    assert list(middlewares) == ["n/s/stamp"]
    assert proxy.factory.built == [(1, "n/s")]
    assert proxy.tcp.tables == [Section()]
    assert proxy.configuration.revision == "e.1"


def test_a_full_configuration_replaces_the_former_one() -> None:
    proxy = Proxy()
    proxy.apply(full=True, sections={"http": BASE, "udp": Section(routers={"u": {"entrypoint": 1}})})
    proxy.apply(full=True, sections={"tcp": Section()})
    assert proxy.table == Section()
    assert proxy.configuration.refused == {}
    assert proxy.configuration.list_entrypoints() == frozenset()


def test_an_unchanged_full_configuration_compiles_nothing() -> None:
    proxy = Proxy()
    proxy.apply(full=True, sections={"http": BASE, "udp": Section(routers={"u": {"entrypoint": 1}})})
    again = Section(
        routers={"r": msgspec.structs.replace(BASE.routers["r"], revision=7)},
        services={"s": msgspec.structs.replace(BASE.services["s"], revision=8)},
        middlewares={"n/s/stamp": msgspec.structs.replace(BASE.middlewares["n/s/stamp"], revision=9)},
    )
    proxy.apply(full=True, sections={"http": again, "udp": Section(routers={"u": {"entrypoint": 1}})})
    assert (len(proxy.http.compiled), len(proxy.tcp.compiled)) == (1, 1)
    assert proxy.configuration.revision == "e.2"
    assert set(proxy.configuration.refused) == {"udp/routers/u"}


def test_a_second_full_configuration_reports_only_differences_to_handlers() -> None:
    proxy = Proxy()
    proxy.apply(full=True, sections={"http": BASE})
    proxy.apply(full=True, sections={"http": Section(routers=BASE.routers, services={"s": service(1), "t": service()})})
    assert proxy.http.compiled[-1][2] == {"r", "s", "t"}
    assert proxy.configuration.refused == {"http/routers/r": "middleware n/s/stamp is not in the configuration"}


def test_a_delta_changes_its_entries_and_reports_them_to_the_handler() -> None:
    proxy = Proxy()
    proxy.apply(full=True, sections={"http": BASE})
    proxy.apply(sections={"http": Section(services={"s": service(81, 82)}), "tcp": Section()})
    section, _, changed = proxy.http.compiled[-1]
    assert section.services == {"s": service(81, 82)}
    assert section.routers == BASE.routers
    assert changed == {"s"}
    assert len(proxy.tcp.compiled) == 1


def test_a_delta_removes_routers_services_and_middlewares() -> None:
    proxy = Proxy()
    proxy.apply(full=True, sections={"http": BASE})
    proxy.apply(removed=("http/routers/r", "http/services/s", "http/middlewares/n/s/stamp"))
    section, middlewares, changed = proxy.http.compiled[-1]
    assert section == Section()
    assert middlewares == {}
    assert changed == {"r", "s"}


def test_an_entry_that_a_delta_removes_and_adds_is_kept() -> None:
    proxy = Proxy()
    proxy.apply(full=True, sections={"http": BASE})
    proxy.apply(removed=("http/services/s",), sections={"http": Section(services={"s": service(9)})})
    assert proxy.table.services == {"s": service(9)}


@pytest.mark.parametrize("since", [None, "e.0"])
def test_a_delta_is_refused_unless_it_follows_the_current_revision(since: str | None) -> None:
    proxy = Proxy()
    proxy.apply(full=True, sections={"http": BASE})
    with pytest.raises(UpdateRejectedError, match="but a full one is needed"):
        proxy.configuration.apply_update(Update(revision="e.2", full=False), since=since)
    assert proxy.configuration.revision == "e.1"


def test_a_delta_before_any_configuration_is_refused() -> None:
    with pytest.raises(UpdateRejectedError):
        Proxy().configuration.apply_update(Update(revision="e.2", full=False), since=None)


def test_a_middleware_with_unchanged_settings_is_not_rebuilt() -> None:
    proxy = Proxy()
    proxy.apply(full=True, sections={"http": BASE})
    proxy.apply(sections={"http": Section(middlewares={"n/s/stamp": stamp(1)}, routers=BASE.routers)})
    proxy.apply(full=True, sections={"http": BASE})
    instances = {middlewares["n/s/stamp"] for _, middlewares, _ in proxy.http.compiled}
    assert len(instances) == 1


def test_a_middleware_with_changed_settings_is_rebuilt_and_its_routers_recompiled() -> None:
    proxy = Proxy()
    proxy.apply(full=True, sections={"http": BASE})
    proxy.apply(sections={"http": Section(middlewares={"n/s/stamp": stamp(2)})})
    assert proxy.http.compiled[0][1] != proxy.http.compiled[1][1]
    assert proxy.http.compiled[1][2] == {"r"}


def test_entrypoints_are_counted_through_deltas() -> None:
    proxy = Proxy()
    proxy.apply(full=True, sections={"http": BASE})
    proxy.apply(sections={"http": Section(routers={"q": router(), "p": router(entrypoint=5001)})})
    proxy.apply(sections={"http": Section(routers={"p": router(entrypoint=5002)})}, removed=("http/routers/r",))
    assert {e.port for e in proxy.configuration.list_entrypoints()} == {5000, 5002}
    proxy.apply(removed=("http/routers/q",))
    assert {e.port for e in proxy.configuration.list_entrypoints()} == {5002}


def test_an_update_that_was_made_without_the_plugin_of_the_transport_is_rejected() -> None:
    proxy = Proxy(encryption="mtls")
    proxy.apply(full=True, plugins=("mtls",), sections={"http": BASE})
    for fields in ({"full": True}, {"plugins": ("acl",)}):
        with pytest.raises(UpdateRejectedError, match="made without plugin mtls"):
            proxy.apply(sections={"http": Section()}, **fields)
    assert (proxy.configuration.revision, len(proxy.http.tables)) == ("e.1", 1)


def test_the_port_of_a_transport_is_an_entrypoint_without_a_router() -> None:
    own = WantedEntrypoint("TCP", 15008, "mtls")
    proxy = Proxy(own_entrypoints=frozenset({own}))
    assert proxy.configuration.list_entrypoints() == {own}
    proxy.apply(full=True, sections={"http": BASE})
    assert proxy.configuration.list_entrypoints() == {own, WantedEntrypoint("TCP", 5000, "http")}


def test_a_service_is_known_by_its_servers_or_its_router_since_a_closed_one_has_no_servers() -> None:
    proxy = Proxy()
    proxy.apply(full=True, sections={"http": Section(routers={"r": router()}, services={"s": service(1)})})
    assert [proxy.configuration.has_service(key) for key in ("r", "s", "t")] == [True, True, False]


def test_an_entrypoint_of_a_routers_own_is_wanted_as_long_as_the_router_has_it() -> None:
    def list_ports() -> set[int]:
        return {each.port for each in proxy.configuration.list_entrypoints()}

    proxy = Proxy()
    own = HttpRouter(entrypoint=5000, hosts=("a.b.maesh",), own_entrypoint=20000)
    proxy.apply(full=True, sections={"http": Section(routers={"r": own})})
    assert list_ports() == {5000, 20000}
    refused = HttpRouter(entrypoint=5000, hosts=("a.b.maesh",), own_entrypoint=20001, service="gone")
    proxy.apply(sections={"http": Section(routers={"r": refused})})
    assert list_ports() == {5000, 20001}
    proxy.apply(removed=("http/routers/r",))
    assert list_ports() == set()
