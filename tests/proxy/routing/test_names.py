"""Services with servers that are known by name, in a worker: tables follow addresses, and nothing else changes."""

import pytest

from maesh_core.errors import UpdateRejectedError
from maesh_core.model.configuration import NamedServer, Part, Section, Server, Service, StreamRouter
from maesh_core.model.names import NameAddresses
from maesh_core.proxy.routing.configuration import RoutingConfiguration

from .recording_proxy import Proxy, router, service

API = Service(names=(NamedServer(name="api.example.com", port=80),))
HTTP = Section(routers={"r": router()}, services={"s": API, "t": service()})


def list_addresses(found: Service) -> list[str]:
    return [server.address for server in found.servers]


def test_addresses_before_and_after_the_configuration_are_used() -> None:
    proxy = Proxy()
    proxy.configuration.apply_addresses({"api.example.com": NameAddresses(("203.0.113.1",))})
    proxy.apply(full=True, sections={"http": HTTP})
    assert list_addresses(proxy.table.services["s"]) == ["203.0.113.1"]
    proxy.configuration.apply_addresses({"api.example.com": NameAddresses(("203.0.113.2",))})
    assert list_addresses(proxy.table.services["s"]) == ["203.0.113.2"]
    assert proxy.http.compiled[-1][2] == {"s"}


def test_addresses_that_no_service_needs_compile_nothing() -> None:
    proxy = Proxy()
    proxy.apply(full=True, sections={"http": HTTP, "tcp": Section()})
    before = len(proxy.http.compiled)
    proxy.configuration.apply_addresses({"other.example.com": NameAddresses(("203.0.113.1",))})
    proxy.configuration.apply_addresses({"other.example.com": NameAddresses(("203.0.113.2",))})
    assert (len(proxy.http.compiled), len(proxy.tcp.compiled)) == (before, 1)


def test_an_update_keeps_the_addresses() -> None:
    proxy = Proxy()
    proxy.apply(full=True, sections={"http": HTTP})
    proxy.configuration.apply_addresses({"api.example.com": NameAddresses(("203.0.113.1",))})
    proxy.apply(sections={"http": Section(services={"t": service(81)})})
    assert list_addresses(proxy.table.services["s"]) == ["203.0.113.1"]
    proxy.apply(full=True, sections={"http": HTTP})
    assert list_addresses(proxy.table.services["s"]) == ["203.0.113.1"]


def test_a_service_that_loses_its_names_has_only_its_own_servers() -> None:
    proxy = Proxy()
    proxy.configuration.apply_addresses({"api.example.com": NameAddresses(("203.0.113.1",))})
    proxy.apply(full=True, sections={"http": HTTP})
    proxy.apply(sections={"http": Section(services={"s": service()})})
    assert proxy.table.services["s"] == service()
    proxy.apply(removed=("http/services/s", "http/routers/r"))
    proxy.configuration.apply_addresses({})
    assert "s" not in proxy.table.services


def test_every_protocol_follows_addresses() -> None:
    proxy = Proxy()
    tcp = Section(routers={"r": StreamRouter(entrypoint=10000, service="s")}, services={"s": API})
    proxy.apply(full=True, sections={"http": HTTP, "tcp": tcp})
    proxy.configuration.apply_addresses({"api.example.com": NameAddresses(("203.0.113.1",))})
    assert list_addresses(proxy.tcp.tables[-1].services["s"]) == ["203.0.113.1"]
    assert list_addresses(proxy.table.services["s"]) == ["203.0.113.1"]


def test_a_part_of_a_service_can_have_names() -> None:
    proxy = Proxy()
    whole = Service(parts=(Part(service="t", weight=1), Part(service="u", weight=1)))
    services = {"s": whole, "t": service(), "u": API}
    proxy.apply(full=True, sections={"http": Section(routers={"r": router()}, services=services)})
    proxy.configuration.apply_addresses({"api.example.com": NameAddresses(("203.0.113.1",))})
    assert list_addresses(proxy.table.services["u"]) == ["203.0.113.1"]
    assert proxy.table.services["s"] == whole


def test_addresses_that_a_handler_refuses_change_nothing() -> None:
    proxy = Proxy()
    proxy.apply(full=True, sections={"http": HTTP})
    proxy.configuration.apply_addresses({"api.example.com": NameAddresses(("203.0.113.1",))})
    before = len(proxy.http.tables)
    proxy.http.error = RuntimeError("no")
    with pytest.raises(UpdateRejectedError):
        proxy.configuration.apply_addresses({"api.example.com": NameAddresses(("203.0.113.2",))})
    proxy.http.error = None
    assert len(proxy.http.tables) == before
    proxy.configuration.apply_addresses({"api.example.com": NameAddresses(("203.0.113.3",))})
    assert list_addresses(proxy.table.services["s"]) == ["203.0.113.3"]


@pytest.mark.parametrize(
    "bad",
    [
        Service(names=(NamedServer(name="API.example.com", port=80),)),
        Service(names=(NamedServer(name="a b", port=80),)),
        Service(names=(NamedServer(name="a", port=0),)),
        Service(names=(NamedServer(name="a", port=80, host="a b"),)),
        Service(servers=(Server(address="10.0.0.1", port=80, authority="a\r\nb"),)),
        Service(names=API.names, parts=(Part(service="t", weight=1),)),
    ],
)
def test_an_update_with_invalid_names_is_rejected(bad: Service) -> None:
    proxy = Proxy()
    assert isinstance(proxy.configuration, RoutingConfiguration)
    with pytest.raises(UpdateRejectedError):
        proxy.apply(full=True, sections={"http": Section(routers={"r": router()}, services={"s": bad, "t": service()})})
