"""Servers outside of the mesh in the table of a worker: how they are named, reached and kept apart."""

import asyncio
from typing import Any

from maesh_core.model.configuration import HttpRouter, NamedServer, Section, Server, Service
from maesh_core.model.names import NameAddresses, fill_service
from maesh_core.proxy.http.handler import HttpHandler
from maesh_core.proxy.http.upstreams.server_key import ServerKey
from maesh_core.proxy.network.clock import Clock
from maesh_core.settings import CarryingSettings

NAME = "api.example.com"
TABLE = {NAME: NameAddresses(("203.0.113.1",)), "b.example.com": NameAddresses(("203.0.113.1",))}


def list_keys(*services: Service) -> list[tuple[ServerKey, str]]:
    """List the keys and the labels of the servers of a table."""

    async def run() -> list[tuple[ServerKey, str]]:
        clock = Clock(asyncio.get_running_loop())
        handler = HttpHandler(CarryingSettings(), clock)
        keys = [str(number) for number in range(len(services))]
        section = Section(
            routers={key: HttpRouter(entrypoint=1, hosts=(key,), service=key) for key in keys},
            services={key: fill_service(each, TABLE) for key, each in zip(keys, services, strict=True)},
        )
        table: Any = handler.compile_table(section, middlewares={}, changed=None)
        servers = [server for key in keys for server, _ in table.services[key].servers]
        clock.close()
        return [(server.key, server.label) for server in servers]

    return asyncio.run(run())


def build(name: str = NAME, *, scheme: str = "http", encryption: str = "off", **fields: Any) -> Service:
    return Service(names=(NamedServer(name=name, port=443, **fields),), scheme=scheme, encryption=encryption)


def test_an_outside_server_is_counted_by_its_name() -> None:
    assert [label for _, label in list_keys(build(), Service(servers=(Server(address="10.0.0.1", port=80),)))] == [
        f"{NAME}:443",
        "10.0.0.1:80",
    ]


def test_names_with_one_address_share_no_connection() -> None:
    (one, _), (other, _) = list_keys(build(scheme="https"), build("b.example.com", scheme="https"))
    assert one != other
    assert (one.tls_name, other.tls_name) == (NAME, "b.example.com")


def test_what_a_server_gets_is_part_of_its_key() -> None:
    keys = [key for key, _ in list_keys(build(), build(host="www.example.com"), build(hides_client=True))]
    assert len(set(keys)) == 3


def test_a_strict_service_reaches_outside_servers_only_over_tls() -> None:
    (clear, _), (secure, _) = list_keys(build(encryption="strict"), build(scheme="https", encryption="strict"))
    assert (clear.mode, secure.mode) == ("strict", "")
