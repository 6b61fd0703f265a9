"""Bodies in, certificates or refusals out."""

import asyncio
import json
import logging

import pytest
from cryptography import x509
from maesh_mtls.controller.proofs.certificate_page import CertificatePage
from maesh_mtls.controller.proofs.node_tokens import NodeTokens
from maesh_mtls.proxy.enrolment import build_request

from maesh_core.plugin import PageRequest, PostRequest

from .certificates import PlainSigner, make_authority, make_key, make_signer

TOKENS = {"a": "token-of-node-a-1", "b": "token-of-node-b-1"}
CSR = build_request(make_key())
SIGNER = PlainSigner(make_authority(make_signer()))


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def proof(tmp_path):
    path = tmp_path / "tokens"
    path.write_text("".join(f"{node} {token}\n" for node, token in TOKENS.items()))
    path.chmod(0o600)
    return NodeTokens(path)


@pytest.fixture
def page(proof, clock):
    return CertificatePage(SIGNER, proof, allows_clear=False, clock=clock)


def build_body(node="a", token=None, csr=CSR, **more):
    return json.dumps({"csr": csr, "token": token or TOKENS[node], "node": node, **more}).encode()


async def post(page, body, remote="127.0.0.1", **options):
    return await page.respond_to_post(PostRequest(body=body, remote=remote, **options))


def count_refusals(page):
    families = {family.name: dict(family.samples) for family in page.collect_metrics()}
    return {labels[0]: count for labels, count in families["maesh_mtls_refused_requests"].items()}


async def test_a_node_with_its_token_gets_a_certificate(page):
    response = await post(page, build_body())
    assert response.status == 200
    answer = json.loads(response.body)
    (certificate,) = x509.load_pem_x509_certificates(answer["chain"].encode())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [name.value for name in names] == ["spiffe://cluster.local/maesh/node/a"]
    assert count_refusals(page) == {}


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"", 400, "body"),
        (b"[]", 400, "body"),
        (b"\xff", 400, "body"),
        (b"[" * 10_000, 400, "body"),
        (build_body(more=1), 400, "body"),
        (json.dumps({"csr": CSR, "node": "a"}).encode(), 400, "body"),
        (build_body("A", token=TOKENS["a"]), 400, "node-name"),
        (build_body("../a", token=TOKENS["a"]), 400, "node-name"),
        (build_body("a", token="stolen-from-elsewhere"), 401, "token"),
        (build_body("a", token=TOKENS["b"]), 403, "node"),
        (build_body("a", csr="x"), 400, "csr"),
    ],
    ids=range(11),
)
async def test_a_wrong_request_is_refused_and_counted(page, body, status, reason):
    response = await post(page, body)
    assert response.status == status
    assert count_refusals(page) == {reason: 1}
    assert all(token.encode() not in response.body for token in TOKENS.values())


async def test_a_node_gets_one_certificate_in_10_seconds(page, clock):
    assert (await post(page, build_body())).status == 200
    clock.now += 9.9
    response = await post(page, build_body())
    assert (response.status, response.headers["Retry-After"]) == (429, "10")
    assert (await post(page, build_body("b"))).status == 200
    clock.now += 0.2
    assert (await post(page, build_body())).status == 200


async def test_requests_without_the_token_do_not_use_up_the_limit_of_a_node(page):
    for _ in range(100):
        assert (await post(page, build_body("a", token="stolen-from-elsewhere"))).status == 401
    assert (await post(page, build_body())).status == 200


class SlowProof:
    def __init__(self):
        self.may_end = asyncio.Event()

    async def check(self, token, node, source=""):
        await self.may_end.wait()


async def test_the_number_of_proofs_under_way_is_limited_in_all_and_for_each_address(clock):
    proof = SlowProof()
    page = CertificatePage(SIGNER, proof, allows_clear=True, clock=clock)
    senders = [f"10.0.0.{index // 5}" for index in range(20)]
    tasks = [asyncio.create_task(post(page, build_body(token="t" * 16), remote)) for remote in senders]
    await asyncio.sleep(0)
    proof.may_end.set()
    statuses = [(await task).status for task in tasks]
    assert statuses[4] == 429, "the fifth from one address"
    assert count_refusals(page)["busy"] >= 10
    assert statuses.count(200) == 1, "the limit of the node"


async def test_strangers_cannot_hold_the_places_of_proxies(clock):
    proof = SlowProof()
    proxies = [f"10.0.1.{index}" for index in range(3)]
    page = CertificatePage(SIGNER, proof, allows_clear=True, clock=clock, is_proxy=proxies.__contains__)
    strangers = [f"10.0.0.{index // 4}" for index in range(20)]
    senders = [*strangers, "10.0.1.0", "10.0.1.0", "10.0.1.1", "10.0.1.2"]
    nodes = ["a"] * 20 + ["b", "c", "d", "e"]
    tasks = [
        asyncio.create_task(post(page, build_body(node, token="t" * 16), remote))
        for node, remote in zip(nodes, senders, strict=True)
    ]
    await asyncio.sleep(0)
    proof.may_end.set()
    statuses = [(await task).status for task in tasks]
    assert statuses[20:] == [200, 429, 200, 200], "a proxy has one reserved place"


async def test_tokens_in_clear_are_only_accepted_from_this_machine(page, proof, clock):
    for remote in ("127.0.0.2", "::1", "::ffff:127.0.0.1"):
        assert (await post(page, build_body(csr="x"), remote)).status in (400, 429)
    for remote in ("10.0.0.1", "fe80::1", ""):
        assert (await post(page, build_body(), remote)).status == 403
    assert count_refusals(page)["clear"] == 3
    assert (await post(page, build_body("b"), "10.0.0.1", is_encrypted=True)).status == 200
    open_page = CertificatePage(SIGNER, proof, allows_clear=True, clock=clock)
    assert (await post(open_page, build_body(), "10.0.0.1")).status == 200


async def test_a_controller_without_authority_or_tokens_signs_nothing(proof, clock):
    for authority, checker, setting in ((None, proof, b"mtls.ca"), (SIGNER, None, b"mtls.tokens")):
        page = CertificatePage(authority, checker, allows_clear=False, clock=clock)
        response = await post(page, build_body())
        assert response.status == 503
        assert setting in response.body


async def test_a_refusal_is_logged_once_in_a_minute_for_each_node(page, clock, caplog):
    caplog.set_level(logging.WARNING)
    for _ in range(3):
        await post(page, build_body("a", token=TOKENS["b"]))
        await post(page, build_body("b", token=TOKENS["a"]))
    assert [record.getMessage() for record in caplog.records] == [
        "a request from 127.0.0.1 for node a was refused: no certificate: the token belongs to another node",
        "a request from 127.0.0.1 for node b was refused: no certificate: the token belongs to another node",
    ]
    clock.now += 60
    await post(page, build_body("a", token=TOKENS["b"]))
    assert len(caplog.records) == 3


async def test_why_tokens_cannot_be_checked_is_only_in_the_log(page, tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    (tmp_path / "tokens").chmod(0o644)
    for _ in range(100):
        response = await post(page, build_body())
    assert (response.status, response.body) == (503, b"the controller cannot check tokens\n")
    (text,) = caplog.messages
    assert "other users can read" in text


async def test_invented_names_do_not_fill_the_log(page, caplog):
    caplog.set_level(logging.WARNING)
    for index in range(100):
        await post(page, build_body(f"n{index}", token="stolen-from-elsewhere"))
    assert len(caplog.records) == 30


async def test_the_page_cannot_be_read(page):
    response = await page.respond(PageRequest())
    assert (response.status, response.headers) == (405, {"Allow": "POST"})
