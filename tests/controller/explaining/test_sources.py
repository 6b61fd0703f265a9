"""The documents of a mesh are checked before an explanation reads them; test_excerpt.py reads those of an engine."""

import pytest

from maesh_core.controller.explaining.sources import decode_body, parse_configuration, require_fields
from maesh_core.errors import StartupError
from maesh_core.model.configuration import HttpRouter, StreamRouter

BODY = (
    b'{"revision": "e.1", "full": true, "http": {"routers": {"a/b:80": {"entrypoint": 1, "hosts": []}}},'
    b' "tcp": {"routers": {"a/b:81": {"entrypoint": 2, "service": "x"}}}}'
)


def test_the_routers_of_a_configuration_are_decoded_by_protocol():
    update = parse_configuration(BODY)
    assert isinstance(update.sections["http"].routers["a/b:80"], HttpRouter)
    assert isinstance(update.sections["tcp"].routers["a/b:81"], StreamRouter)


@pytest.mark.parametrize("body", [b"[]", b"{}", b"\xff", b"[" * 100_000])
def test_another_body_is_refused(body):
    with pytest.raises(StartupError, match="the server is not a controller"):
        parse_configuration(body)


def test_a_missing_field_is_named():
    document = decode_body(b'{"services": {}}', dict)
    assert require_fields(document, "services") == document
    with pytest.raises(StartupError, match="its response has no pods"):
        require_fields(document, "services", "pods")
