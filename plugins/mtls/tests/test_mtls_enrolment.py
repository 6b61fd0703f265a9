"""An order in, credentials or a failure out: against the page of a controller."""

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import msgspec
import pytest
from maesh_mtls.controller.proofs.certificate_page import CertificatePage
from maesh_mtls.controller.proofs.node_tokens import NodeTokens
from maesh_mtls.proxy.contexts import build_contexts
from maesh_mtls.proxy.enrolment import ANSWER_LIMIT_BYTES, FailedError, get_credentials
from maesh_mtls.proxy.renewal import EnrolmentError, enrol
from maesh_mtls.wire import CertificateAnswer, Credentials, EnrolmentOrder

from .certificates import PlainSigner, make_authority, make_credentials, make_signer
from .handshakes import shake_hands
from .signing_server import SigningServer, answer_with_page, build_server_context

pytestmark = pytest.mark.slow

TOKENS = {"n1": "token-of-node-n1", "n2": "token-of-node-n2"}
SIGNER = make_signer()


@pytest.fixture
def start(tmp_path):
    """Start a server that answers with a page, or otherwise; returns it, and what builds orders for it."""
    servers = []

    def start_server(answer=None, *, signer=SIGNER, now=None, context=None):
        tokens = tmp_path / "tokens"
        tokens.write_text("".join(f"{node} {token}\n" for node, token in TOKENS.items()))
        tokens.chmod(0o600)
        page = CertificatePage(
            PlainSigner(make_authority(signer, now=now)), NodeTokens(tokens), allows_clear=False, clock=time.monotonic
        )
        server = SigningServer(answer or answer_with_page(page), context=context)
        servers.append(server)
        scheme = "http" if context is None else "https"

        def build_order(node="n1", text="", **changes):
            path = tmp_path / f"token-{node}"
            path.write_text(f"{text or TOKENS[node]}\n")
            endpoint = f"{scheme}://127.0.0.1:{server.port}"
            return EnrolmentOrder(**{"endpoint": endpoint, "node": node, "token": str(path), **changes})

        return SimpleNamespace(build=build_order, server=server)

    yield start_server
    for server in servers:
        server.close()


def fail(order, now=None):
    with pytest.raises(FailedError) as caught:
        get_credentials(order, now or time.time())
    assert all(token not in str(caught.value) for token in TOKENS.values())
    return caught.value.reason, str(caught.value)


def test_a_node_gets_credentials_that_work(start):
    controller = start()
    first, second = (get_credentials(controller.build(node), time.time()) for node in ("n1", "n2"))
    assert first.identity == "spiffe://cluster.local/maesh/node/n1"
    client, _ = shake_hands(build_contexts(first).client, build_contexts(second).server)
    assert client.getpeercert()["subjectAltName"] == (("URI", second.identity),)
    assert first.not_after - first.not_before == 86400 + 300


def test_each_renewal_has_a_new_key(start):
    controller = start()
    first = get_credentials(controller.build("n1"), time.time())
    second = get_credentials(controller.build("n2"), time.time())
    assert first.key != second.key
    assert first.serial != second.serial


def test_the_key_is_not_shown():
    assert "PRIVATE KEY" not in repr(make_credentials(SIGNER, "n1"))


@pytest.mark.parametrize("suffix", ["", "/", "/api/configuration/current", "/api/configuration/current/"])
def test_the_endpoint_may_be_that_of_the_configuration(start, suffix):
    controller = start()
    order = controller.build()
    get_credentials(msgspec.structs.replace(order, endpoint=order.endpoint + suffix), time.time())
    assert controller.server.requests[0][0] == "/mtls/certificates"


def test_a_stolen_or_unknown_token_gets_nothing(start):
    controller = start()
    assert fail(controller.build(text="token-of-nobody-at-all")) == (
        "status-401",
        f"127.0.0.1:{controller.server.port} answered 401: the token is unknown",
    )
    assert fail(controller.build("n1", text=TOKENS["n2"]))[0] == "status-403"


def test_a_controller_that_is_away_is_a_failure(start):
    controller = start()
    order = controller.build()
    controller.server.close()
    assert fail(order)[0] == "connection"


def test_a_clock_that_is_10_minutes_slow_is_named(start):
    controller = start()
    assert fail(controller.build("n1"), time.time() - 600)[0] == "clock"
    get_credentials(controller.build("n2"), time.time() + 600)


def test_a_controller_whose_clock_is_10_minutes_fast_is_named(start):
    controller = start(now=lambda: datetime.now(UTC) + timedelta(minutes=10))
    reason, text = fail(controller.build())
    assert (reason, "clock" in text) == ("clock", True)


@pytest.mark.parametrize("settings", [{"token": "/no/such/token"}, {"trust": "/no/such/trust"}], ids=["token", "trust"])
def test_a_file_that_is_missing_is_named(start, settings):
    reason, text = fail(start().build(**settings))
    assert reason == "settings"
    assert next(iter(settings.values())) in text


def test_the_token_is_not_sent_in_clear_to_another_machine(start):
    order = start().build(endpoint="http://192.0.2.1:9000")
    assert fail(order)[0] == "clear"


def test_a_token_may_be_followed_by_other_lines_and_preceded_by_its_name(start):
    get_credentials(start().build(text=f"n1 {TOKENS['n1']}\nn1 another-token-of-n1"), time.time())


def test_a_file_without_a_token_is_named(start):
    reason, text = fail(start().build(text="\n"))
    assert (reason, "no token in its first line" in text) == ("settings", True)


def test_the_token_of_the_proxy_is_sent_to_an_api_that_needs_one(start, tmp_path):
    path = tmp_path / "api-token"
    path.write_text("proxies token-of-all-proxies\n")
    controller = start()
    get_credentials(controller.build(api_token=str(path)), time.time())
    _, fields, body = controller.server.requests[0]
    assert fields["Authorization"] == "Bearer token-of-all-proxies"
    assert b"token-of-all-proxies" not in body


class TestOverTls:
    def test_the_controller_may_have_a_certificate_of_another_authority(self, start, tmp_path):
        other = make_signer()
        paths = {"trust": tmp_path / "bundle.pem", "api_trust": tmp_path / "api.pem"}
        paths["trust"].write_text(SIGNER.bundle)
        paths["api_trust"].write_text(other.bundle)
        controller = start(context=build_server_context(other))
        order = controller.build(**{name: str(path) for name, path in paths.items()})
        assert get_credentials(order, time.time()).bundle == SIGNER.bundle

    def test_the_controller_is_verified_by_the_trusted_certificates(self, start, tmp_path):
        trust = tmp_path / "bundle.pem"
        trust.write_text(SIGNER.bundle)
        controller = start(context=build_server_context(SIGNER))
        assert get_credentials(controller.build(trust=str(trust)), time.time()).bundle == SIGNER.bundle

    def test_a_controller_with_another_certificate_gets_no_token(self, start, tmp_path):
        trust = tmp_path / "bundle.pem"
        trust.write_text(make_signer().bundle)
        controller = start(context=build_server_context(SIGNER))
        assert fail(controller.build(trust=str(trust)))[0] == "controller"
        assert fail(controller.build())[0] == "controller"
        assert controller.server.requests == []

    def test_a_controller_with_the_certificate_of_another_name_gets_no_token(self, start, tmp_path):
        trust = tmp_path / "bundle.pem"
        trust.write_text(SIGNER.bundle)
        controller = start(context=build_server_context(SIGNER, address="192.0.2.7"))
        assert fail(controller.build(trust=str(trust)))[0] == "controller"
        assert controller.server.requests == []


def test_the_trusted_certificates_win_over_those_of_the_answer(start, tmp_path):
    trust = tmp_path / "bundle.pem"
    trust.write_text(make_signer().bundle)
    assert fail(start().build(trust=str(trust)))[0] == "trust"


def answer_with(credentials, **changes):
    answer = CertificateAnswer(chain=credentials.chain, bundle=credentials.bundle)
    return lambda *_: (200, msgspec.json.encode(msgspec.structs.replace(answer, **changes)))


@pytest.mark.parametrize(
    "answer",
    [
        lambda *_: (200, b""),
        lambda *_: (200, b"{}"),
        lambda *_: (200, b"x" * (ANSWER_LIMIT_BYTES + 1000)),
        answer_with(make_credentials(SIGNER, "n1")),
        answer_with(make_credentials(SIGNER, "n1"), chain=""),
        answer_with(make_credentials(SIGNER, "n1"), bundle="ü"),
    ],
    ids=["empty", "no certificate", "too large", "another key", "no chain", "no bundle"],
)
def test_an_answer_that_is_no_certificate_for_our_key_is_refused(start, answer):
    assert fail(start(answer).build())[0] == "answer"


def test_what_a_controller_answers_is_shown_without_control_characters_and_cut(start):
    _, text = fail(start(lambda *_: (503, b"no\x1b[31m\n" + b"x" * 10_000)).build())
    assert text.isprintable()
    assert len(text) < 300


def test_a_redirect_is_not_followed(start):
    assert fail(start(lambda *_: (302, b"")).build())[0] == "status-302"


async def test_the_process_returns_credentials(start):
    credentials = await enrol(start().build())
    assert isinstance(credentials, Credentials)
    build_contexts(credentials)


async def test_the_process_returns_why_it_failed(start):
    with pytest.raises(EnrolmentError, match="the token is unknown") as caught:
        await enrol(start().build(text="token-of-nobody-at-all"))
    assert caught.value.reason == "status-401"


@pytest.mark.parametrize(
    "program", ["print('x')", "import os; os.abort()", "raise SystemExit(1)", "print('x' * 1_000_000)"]
)
async def test_a_process_that_misbehaves_is_a_failure(program):
    order = EnrolmentOrder(endpoint="http://127.0.0.1:1", node="n1", token="/no/such/token")
    with pytest.raises(EnrolmentError) as caught:
        await enrol(order, program=(sys.executable, "-c", program))
    assert caught.value.reason == "process"


async def test_a_program_that_is_missing_is_a_failure():
    order = EnrolmentOrder(endpoint="http://127.0.0.1:1", node="n1", token="/no/such/token")
    with pytest.raises(EnrolmentError, match="cannot be started"):
        await enrol(order, program=("/no/such/program",))


def test_the_process_refuses_an_order_that_it_cannot_read():
    command = (sys.executable, "-P", "-m", "maesh_mtls.proxy.enrolment")
    done = subprocess.run(command, input=b"x", capture_output=True, timeout=60, env=dict(os.environ))
    assert (done.returncode, done.stderr) == (1, b"")
    assert json.loads(done.stdout)["reason"] == "order"
