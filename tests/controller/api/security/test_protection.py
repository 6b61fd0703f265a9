"""Which settings protect the API, and a whole controller that is protected."""

import asyncio
import ssl

import aiohttp
import pytest
import trustme

from maesh_core.controller.api.nodes import AdminAddress
from maesh_core.controller.api.outgoing.peer_client import PeerClient
from maesh_core.controller.api.outgoing.request_security import Secured
from maesh_core.controller.api.security.certificate import ApiCertificate
from maesh_core.controller.api.security.protection import Protection, load_protection
from maesh_core.controller.api_clients.controllers import ApiAccess, open_controllers
from maesh_core.controller.mesh_proxies.mesh_pods import Peer
from maesh_core.controller.run import run_controller
from maesh_core.errors import MaeshError, NodeUnreachableError, SettingsError, StartupError
from maesh_core.plain_http.server import HttpServer, ServerLimits
from maesh_core.process.tls_credentials import TlsCredentials
from maesh_core.proxy.node.fetch import Fetcher, parse_endpoint
from maesh_core.settings import ControllerSettings

TOKEN = "0123456789abcdef"
ADDRESS = AdminAddress("127.0.0.1", 9000)


class NoPlugins:
    names: tuple[str, ...] = ()

    def collect(self, hook_name, **arguments):
        return []

    def describe(self, provided):
        return ""


class Files:
    """The files of a certificate, of its authority, and of tokens."""

    def __init__(self, folder):
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1")
        self.cert, self.key, self.ca, self.tokens = (
            folder / name for name in ("tls.crt", "tls.key", "ca.crt", "tokens")
        )
        self.cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        self.key.write_bytes(issued.private_key_pem.bytes())
        self.ca.write_bytes(authority.cert_pem.bytes())
        self.tokens.write_text(f"all {TOKEN}\n")

    @property
    def settings(self):
        return {"api_cert": str(self.cert), "api_key": str(self.key), "api_tokens": str(self.tokens)}

    @property
    def access(self):
        return ApiAccess(root_ca=str(self.ca), token_file=str(self.tokens))


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path)


@pytest.mark.parametrize("given", ["api_cert", "api_key"])
def test_a_certificate_and_its_key_need_each_other(files, given):
    with pytest.raises(StartupError, match="--api-cert and --api-key need each other"):
        load_protection(ControllerSettings(**{given: files.settings[given]}))


def test_tokens_are_not_used_in_clear_except_on_this_machine(files):
    tokens = str(files.tokens)
    for host in ("", "0.0.0.0", "10.0.0.1"):
        with pytest.raises(StartupError, match="--api-tokens needs --api-cert"):
            load_protection(ControllerSettings(api_host=host, api_tokens=tokens))
    protection = load_protection(ControllerSettings(api_host="127.0.0.1", api_tokens=tokens))
    assert protection.secure_peer(ADDRESS) == Secured(None, "maesh-controller.maesh.svc", TOKEN)


def test_by_default_nothing_is_protected():
    protection = load_protection(ControllerSettings())
    assert (protection.authentication, protection.is_encrypted, protection.is_ready) == (None, False, True)
    assert protection.list_jobs(asyncio.sleep) == []
    assert protection.secure_peer(ADDRESS) == Secured(None, "maesh-controller.maesh.svc")


@pytest.fixture
async def controller(files, tmp_path):
    """Run a protected controller; return its port."""
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    settings = ControllerSettings(
        paths=(str(manifests),),
        api_host="127.0.0.1",
        api_port=0,
        port_mapping=str(tmp_path / "mapping.json"),
        **files.settings,
    )
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    task = asyncio.create_task(run_controller(settings, NoPlugins(), stop=stop, ready=ready.set_result))
    yield (await ready).api_port
    stop.set()
    await task


async def fetch(port, access, path="/api/services"):
    async with open_controllers(
        f"https://127.0.0.1:{port}", kubeconfig="", master_url="", namespace="", access=access
    ) as controllers:
        return await controllers[0][1](path)


async def test_commands_use_the_api_with_a_token_and_trust(files, controller, tmp_path):
    assert await fetch(controller, files.access) == b"[]"
    with pytest.raises(MaeshError, match="401 this needs a valid token"):
        await fetch(controller, ApiAccess(root_ca=str(files.ca)))
    with pytest.raises(MaeshError, match="no controller answers"):
        await fetch(controller, ApiAccess(token_file=str(files.tokens)))
    wrong = tmp_path / "wrong"
    wrong.write_text("x" * 16)
    with pytest.raises(MaeshError, match="401"):
        await fetch(controller, ApiAccess(root_ca=str(files.ca), token_file=str(wrong)))


async def test_the_readiness_needs_no_token_and_a_refusal_names_the_scheme(files, controller):
    assert await fetch(controller, ApiAccess(root_ca=str(files.ca)), "/api/status/readiness") == b"true"
    context = ssl.create_default_context(cafile=str(files.ca))
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
        session.get(f"https://127.0.0.1:{controller}/unknown") as response,
    ):
        assert (response.status, response.headers["WWW-Authenticate"]) == (401, 'Bearer realm="maesh"')


async def test_proxies_pull_with_a_token_and_trust(files, controller):
    endpoint = parse_endpoint(f"https://127.0.0.1:{controller}")
    fetcher = Fetcher(endpoint, root_ca=str(files.ca), token_file=str(files.tokens))
    answer = await fetcher.fetch("node=n1")
    assert (answer.status, b'"full":true' in answer.body) == (200, True)
    await fetcher.close()
    fetcher = Fetcher(endpoint, root_ca=str(files.ca))
    assert (await fetcher.fetch("node=n1")).status == 401
    await fetcher.close()


async def test_controllers_ask_each_other_with_their_certificate_and_token(files, controller):
    peer = Peer(name="other", ip="127.0.0.1", port=controller)
    client = PeerClient(load_protection(ControllerSettings(**files.settings)).secure_peer)
    assert await client.fetch_reports(peer) == []
    await client.close()
    client = PeerClient()
    with pytest.raises(NodeUnreachableError):
        await client.fetch_reports(peer)
    await client.close()


async def test_a_command_sends_no_token_in_clear(files):
    with pytest.raises(SettingsError, match="--controller-token needs an https endpoint"):
        async with open_controllers(
            "http://10.0.0.1:9000", kubeconfig="", master_url="", namespace="", access=files.access
        ):
            pass


async def test_files_that_a_command_cannot_read_are_named(files, tmp_path):
    missing = str(tmp_path / "missing")
    for access, flag in (
        (ApiAccess(root_ca=missing), "--root-ca-controller"),
        (ApiAccess(root_ca=str(files.tokens)), "it contains no certificates"),
        (ApiAccess(token_file=missing), "--controller-token"),
    ):
        with pytest.raises(SettingsError, match=flag):
            await fetch(1, access)


def issue_credentials(authority, name):
    issued = authority.issue_cert(name)
    return TlsCredentials(
        key=issued.private_key_pem.bytes().decode(),
        chain="".join(blob.bytes().decode() for blob in issued.cert_chain_pems),
        bundle=authority.cert_pem.bytes().decode(),
    )


class RotatingCertifier:
    """Has one authority after the other. Everybody whose certificate is verified is a controller."""

    name = "rotating"

    def __init__(self, *authorities):
        self.authorities, self.has_ended = authorities, asyncio.Event()

    async def watch_credentials(self, hosts):
        for authority in self.authorities:
            yield issue_credentials(authority, "controller.example")
        self.has_ended.set()
        await asyncio.Event().wait()

    def is_controller(self, certificate):
        return True

    def find_node(self, certificate):
        return None

    async def find_token_node(self, identity):
        return None

    def is_revoked(self, node):
        return False


def do_handshake(server, client):
    """Do a handshake in memory; returns the certificates that the server and the client saw. Raises ssl.SSLError."""
    pipes = [ssl.MemoryBIO() for _ in range(2)]
    accepted = server.wrap_bio(pipes[0], pipes[1], server_side=True)
    connected = client.wrap_bio(pipes[1], pipes[0], server_hostname="127.0.0.1")
    for _ in range(4):
        for side in (connected, accepted):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return accepted.getpeercert(), connected.getpeercert()


@pytest.mark.parametrize("has_files", [True, False])
async def test_an_authority_that_was_rotated_out_is_not_trusted_any_longer(files, has_files):
    former, current = trustme.CA(), trustme.CA()
    certifier = RotatingCertifier(former, current)
    certificate = ApiCertificate(str(files.cert), str(files.key)) if has_files else None
    protection = Protection(certificate=certificate, certifier=certifier)
    server = HttpServer(lambda request: None, lambda status, reason: None, ServerLimits())
    protection.apply_to(server)
    following = asyncio.gather(*protection.list_jobs(asyncio.sleep))
    await certifier.has_ended.wait()

    def connect_as(authority):
        client = ssl.create_default_context(cafile=str(files.ca))
        current.configure_trust(client)
        client.check_hostname = False
        authority.issue_cert("n1.example").configure_cert(client)
        return do_handshake(server.context, client)[0]

    assert connect_as(current)
    with pytest.raises(ssl.SSLError):
        connect_as(former)
    node = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    former.issue_cert("127.0.0.1").configure_cert(node)
    with pytest.raises(ssl.SSLCertVerificationError):
        do_handshake(node, protection.secure_peer(ADDRESS).context)
    following.cancel()
    await asyncio.wait([following])
