"""Only the mesh sets the field with the client's account."""

import pytest

from maesh_core.errors import ClientProtocolError
from maesh_core.proxy.http.messages.account_field import render_account, strip_fields, strip_head
from maesh_core.proxy.http.messages.head_rules import HeadRules
from maesh_core.proxy.http.messages.request_parsing import StrippingReader

START = b"GET / HTTP/1.1\r\nHost: a\r\n"


def test_an_account_is_named_by_its_namespace_first():
    assert render_account("web@shop") == b"X-Maesh-Client: shop/web\r\n"


@pytest.mark.parametrize(
    "lines",
    [
        b"X-Maesh-Client: shop/admin\r\n",
        b"x-maesh-client:shop/admin\r\n",
        b"X-MAESH-CLIENT: a\r\nX-Maesh-Client: b\r\n",
        b"X_Maesh_Client: a\r\nx-maesh_client: b\r\n",
        b"X-Maesh-Client:\r\n",
    ],
)
def test_what_a_client_sends_is_removed(lines):
    assert strip_head(START + lines + b"\r\n") == START + b"\r\n"
    assert strip_head(START + b"A: b\r\n" + lines + b"C: d\r\n\r\n") == START + b"A: b\r\nC: d\r\n\r\n"


@pytest.mark.parametrize("lines", [b"X-Maesh-Client2: a\r\n", b"A: X-Maesh-Client: a\r\n", b"XX-Maesh-Client: a\r\n"])
def test_other_fields_stay(lines):
    assert strip_head(START + lines + b"\r\n") == START + lines + b"\r\n"


@pytest.mark.parametrize(
    "lines",
    [
        b"X-Maesh-Client : a\r\n",
        b"X-Maesh-Client: a\r\n b\r\n",
        b"A: b\nX-Maesh-Client: a\r\n",
        b"A: b\r\n X-Maesh-Client: a\r\n",
        b"X-Maesh-Client: a\rb\r\n",
        b"A: b\r\nX-Maesh-Client: a\nC: d\r\n",
    ],
)
def test_forms_that_a_server_may_read_differently_are_refused(lines):
    with pytest.raises(ClientProtocolError):
        StrippingReader(HeadRules(drops_account=True)).read(START + lines + b"\r\n")


def test_a_field_of_http2_is_removed():
    fields = ((b":method", b"GET"), (b"x-maesh-client", b"a"), (b"x_maesh_client", b"b"), (b"a", b"b"))
    assert strip_fields(fields) == ((b":method", b"GET"), (b"a", b"b"))
