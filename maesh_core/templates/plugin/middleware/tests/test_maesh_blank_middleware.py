"""What the middleware does, first alone and then in a real mesh."""

import pytest
from maesh_blank import BlankSettings, ServiceBlank
from maesh_blank.controller import BlankBuilder
from maesh_blank.proxy import BlankFactory

from maesh_core.plugin import ConfigurationError, ObjectKey, ServiceNode
from maesh_testing import FakeExchange

SERVICE = ServiceNode(key=ObjectKey("shop", "cart"), traffic_type="http")


def build_settings(annotations):
    return BlankBuilder(BlankSettings()).build_settings(annotations, SERVICE)


def test_a_service_without_the_annotation_has_no_middleware():
    assert build_settings({}) is None


def test_a_bad_value_is_an_error_that_names_it():
    with pytest.raises(ConfigurationError, match="blank"):
        build_settings({"blank": "\r\n"})


def test_the_response_carries_the_header():
    middleware = BlankFactory().build_middleware(ServiceBlank(header="X-Blank", value="hello"), "shop/cart:80")
    exchange = FakeExchange(status=200)
    assert middleware.on_response(exchange) is None
    assert exchange.response_headers.get(b"X-Blank") == b"hello"


def test_the_header_is_there_in_a_real_mesh(start_mesh):
    mesh = start_mesh("--blank", annotations={"blank": "hello"})
    assert mesh.get("/").headers["X-Blank"] == "hello"
