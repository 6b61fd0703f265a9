"""Who may read the admin port, and when it is protected."""

from types import SimpleNamespace
from typing import Any

import pytest

from maesh_core.errors import SettingsError
from maesh_core.plain_http.messages import Request, Response
from maesh_core.process.tls_credentials import TlsCredentials
from maesh_core.proxy.node.admin_security import AdminSecurity, NodeSecurity

CONTROLLER = {"of": "controller"}


def is_controller(certificate: Any) -> bool:
    return bool(certificate == CONTROLLER)


def build(*, host: str = "", is_clear: bool = False, open_paths: tuple[str, ...] = ()) -> tuple[AdminSecurity, Any]:
    security = AdminSecurity(lambda request: Response(status=200), host=host, is_clear=is_clear, open_paths=open_paths)
    server = SimpleNamespace(context=None, is_protected=False, may_be_clear=None)
    security.attach(server)  # type: ignore[arg-type]
    return security, server


def ask(security: AdminSecurity, target: bytes, certificate: Any = None) -> int:
    response = security.answer(Request(target=target, remote="10.0.0.1", certificate=certificate))
    assert isinstance(response, Response)
    return response.status


def test_without_a_plugin_everybody_may_read_everything() -> None:
    security, server = build()
    assert not security.is_protected
    assert not server.is_protected
    assert ask(security, b"/status") == 200


@pytest.mark.parametrize("options", [{"host": "127.0.0.1"}, {"host": "::1"}, {"is_clear": True}])
def test_on_loopback_and_with_the_flag_nothing_is_protected(options: Any) -> None:
    security, server = build(**options)
    security.protect(is_controller)
    security.use(TlsCredentials(key="", chain="", bundle=""))
    assert (security.is_protected, server.is_protected, server.context) == (False, False, None)
    assert ask(security, b"/status") == 200


def test_a_protected_port_answers_controllers_and_open_pages(caplog: pytest.LogCaptureFixture) -> None:
    security, server = build(open_paths=("/metrics",))
    security.protect(is_controller)
    assert server.is_protected
    for target in (b"/ping", b"/ready", b"/metrics", b"/metrics?x", b"/ready?x=/status"):
        assert ask(security, target) == 200
        assert server.may_be_clear(Request(target=target))
    for target in (b"/status", b"/tap?x=/ping", b"/", b"/metrics/", b"//ping", b""):
        assert [ask(security, target, each) for each in (None, {"of": "node"}, CONTROLLER)] == [403, 403, 200]
        assert not server.may_be_clear(Request(target=target))
    assert dict(security.collect_metrics()[0].samples) == {("missing",): 6, ("certificate",): 6, ("clear",): 6}
    assert len(caplog.records) == 3


def test_an_open_page_must_be_a_path() -> None:
    with pytest.raises(SettingsError, match="--admin-open: 'metrics' is not a path"):
        build(open_paths=("metrics",))


def test_a_certificate_is_used_by_the_port_and_by_pulls() -> None:
    security, _ = build(is_clear=True)
    used: list[TlsCredentials] = []
    credentials = TlsCredentials(key="", chain="", bundle="")
    both = NodeSecurity(security, SimpleNamespace(use=used.append))  # type: ignore[arg-type]
    both.use(credentials)
    assert used == [credentials]
