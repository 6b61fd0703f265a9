"""A connection to a real Redis, and to servers that answer anything."""

import asyncio
import contextlib
import subprocess

import pytest
from maesh_ratelimit.redis_settings import parse_redis_url
from maesh_ratelimit.redis_store.connection import REPLY_LIMIT_BYTES, RedisLink, StoreError
from maesh_ratelimit.redis_store.script import Question

from maesh_testing import find_free_port

from .redis_servers import run_redis

CLUSTER = "the server is part of a Redis Cluster, which is not supported"
QUESTION = Question(b"k", 5, 0, 10, 10_000.0, 0.0)


def build_link(url, *, timeout_s=30.0, **options):
    return RedisLink(parse_redis_url(url), node="a", prefix="test:", timeout_s=timeout_s, **options)


async def fail_to_connect(link):
    """Connect in vain, and return the reason."""
    with pytest.raises(StoreError) as caught:
        await link.connect()
    await link.close()
    return str(caught.value)


@contextlib.asynccontextmanager
async def run_server(answer):
    """Run a server that answers every chunk of bytes with the result of `answer`; yield its URL."""

    async def serve(reader, writer):
        with contextlib.suppress(OSError):
            while chunk := await reader.read(1 << 16):
                writer.write(answer(chunk))
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def answer_once_as_redis(rest):
    """Answer the connection's first commands as Redis does, and the script with `rest` from the second time on."""
    seen = []

    def answer(chunk):
        if b"EVAL" not in chunk:
            return b"+OK\r\n"
        seen.append(chunk)
        return b"*5\r\n:1\r\n:0\r\n:0\r\n:0\r\n:1\r\n" if len(seen) == 1 else rest

    return answer


async def test_a_closed_connection_is_described_by_a_part_of_a_sentence():
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        with pytest.raises(StoreError, match=r"[^.]$"):
            await build_link(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}").connect()


async def test_a_refused_connection_is_an_error_that_says_so():
    with pytest.raises(StoreError, match="Connect call failed"):
        await build_link("redis://127.0.0.1:1").connect()


@pytest.mark.parametrize(
    ("rest", "reason"),
    [
        (b"+OK\r\n", "another shape"),
        (b"*2\r\n:1\r\n:2\r\n", "another shape"),
        (b"*5\r\n:1\r\n:6\r\n:0\r\n:0\r\n:0\r\n", "more than was asked"),
        (b"-OOM command not allowed\r\n", "OOM command|command not allowed"),
        (b"-READONLY You can't write against a read only replica.\r\n", "read only replica"),
        (b"-LOADING Redis is loading\x1b[31m\r\n", "is loading"),
        (b"?what\r\n", "Protocol Error"),
        (b":abc\r\n", "invalid literal"),
        (b"$%d\r\n" % (REPLY_LIMIT_BYTES + 1), "too long"),
        (b"$99999999999\r\n", "too long"),
        (b"$-5\r\n", "too long"),
        (b"*1000000000\r\n" + b":1\r\n" * REPLY_LIMIT_BYTES, "too long"),
        (b"*1\r\n" * 20_000, "."),
        (b"x" * 200_000, "."),
    ],
)
async def test_an_answer_that_is_not_the_scripts_is_an_error(rest, reason):
    async with run_server(answer_once_as_redis(rest)) as url:
        link = build_link(url)
        await link.connect()
        with pytest.raises(StoreError, match=reason) as caught:
            await link.ask([QUESTION], is_heartbeat=False)
        assert str(caught.value).isprintable()
        await link.close()


async def test_a_server_that_does_not_answer_is_an_error_after_the_time_out():
    async with run_server(answer_once_as_redis(b"")) as url:
        link = build_link(url)
        await link.connect()
        link._timeout_s = 0.05
        with pytest.raises(StoreError, match=r"no answer within 0\.05 s"):
            await link.ask([QUESTION], is_heartbeat=False)
        await link.close()


@pytest.mark.peer
async def test_a_server_that_forgets_its_scripts_gets_the_script_again(redis_server):
    link = build_link(redis_server.url)
    await link.connect()
    await link._connection.send_command("SCRIPT", "FLUSH")
    assert await link._connection.read_response() == b"OK"
    _, (grant,) = await link.ask([QUESTION], is_heartbeat=False)
    assert grant.granted == 5
    await link.close()


@pytest.mark.peer
async def test_the_password_is_read_at_each_connection_and_a_wrong_one_is_said(tmp_path, redis_server):
    with run_redis(tmp_path, "--requirepass", "right") as server:
        file = tmp_path / "password"
        file.write_text("wrong\n")
        link = build_link(server.url, password_file=str(file))
        with pytest.raises(StoreError, match="refuses the user or the password") as caught:
            await link.connect()
        assert "wrong" not in str(caught.value)
        file.write_text("right\n")
        assert await link.connect() == 1
        await link.close()
        file.unlink()
        with pytest.raises(StoreError, match=r"a file cannot be used: .*password"):
            await link.connect()


@pytest.mark.parametrize(
    "rest",
    [
        b"-CROSSSLOT Keys in request don't hash to the same slot\r\n",
        b"-MOVED 3999 127.0.0.1:6381\r\n",
        b"-ASK 3999 127.0.0.1:6381\r\n",
        b"-CLUSTERDOWN Hash slot not served\r\n",
    ],
)
async def test_a_redis_cluster_is_refused_by_name(rest):
    async with run_server(lambda chunk: rest if b"EVAL" in chunk else b"+OK\r\n") as url:
        assert await fail_to_connect(build_link(url)) == CLUSTER


async def test_a_replica_that_has_lost_its_primary_is_no_redis_cluster():
    rest = b"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n"
    async with run_server(lambda chunk: rest if b"EVAL" in chunk else b"+OK\r\n") as url:
        assert "Link with MASTER is down" in await fail_to_connect(build_link(url))


@pytest.mark.peer
async def test_a_real_redis_cluster_is_refused_at_the_connection(tmp_path, redis_server):
    with run_redis(tmp_path, "--cluster-enabled", "yes", "--cluster-port", find_free_port()) as server:
        link = build_link(server.url)
        assert await fail_to_connect(link) == CLUSTER  # no slot has a node yet
        await assign_slots(server)
        assert await fail_to_connect(link) == CLUSTER


async def assign_slots(server):
    """Give the only node of a cluster all slots, and wait until it serves them."""
    reader, writer = await asyncio.open_connection(server.address, server.port)
    writer.write(b"CLUSTER ADDSLOTSRANGE 0 16383\r\n")
    assert await reader.readline() == b"+OK\r\n"
    answer = b""
    while answer != b"$-1\r\n":
        assert not answer or answer.startswith(b"-CLUSTERDOWN")
        writer.write(b"GET key\r\n")
        answer = await reader.readline()
    writer.close()
    await writer.wait_closed()


@pytest.mark.peer
async def test_a_user_needs_few_permissions(tmp_path, redis_server):
    acl = "--user app on >secret ~test:* +evalsha +eval +time +zadd +zremrangebyscore +pexpire +zcard +get +set +del"
    with run_redis(tmp_path, *acl.split(" ")) as server:
        file = tmp_path / "password"
        file.write_text("secret")
        link = build_link(server.url.replace("redis://", "redis://app@").removesuffix("/0"), password_file=str(file))
        await link.connect()
        _, (grant,) = await link.ask([QUESTION], is_heartbeat=False)
        assert grant.granted == 5
        await link.close()


@pytest.fixture
def certificate(tmp_path):
    """Make a certificate for 127.0.0.1, which is its own authority; return its file and its key's."""
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key.pem -out ca.pem"
    subject = ["-days", "2", "-subj", "/CN=elsewhere", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command.split(), *subject], cwd=tmp_path, check=True, capture_output=True)
    return str(tmp_path / "ca.pem"), str(tmp_path / "key.pem")


async def test_a_missing_file_of_an_authority_is_an_error(tmp_path):
    with pytest.raises(StoreError, match="a file cannot be used"):
        await build_link("rediss://127.0.0.1:1", ca_file=str(tmp_path / "no.pem")).connect()


@pytest.mark.peer
async def test_tls_shows_who_the_server_is(tmp_path, redis_server, certificate):
    ca, key = certificate
    tls = ["--tls-cert-file", ca, "--tls-key-file", key, "--tls-ca-cert-file", ca]
    with run_redis(tmp_path, *tls, has_tls=True) as server:
        url = server.url.replace("redis://", "rediss://")
        files = {"ca_file": ca, "certificate_file": ca, "key_file": key}
        link = build_link(url, **files)
        assert await link.connect() == 1
        await link.close()
        with pytest.raises(StoreError, match=r"(?i)certificate"):
            await build_link(url).connect()
        with pytest.raises(StoreError, match=r"(?i)certificate"):
            await build_link(
                url.replace("127.0.0.1", "localhost"), ca_file=ca, certificate_file=ca, key_file=key
            ).connect()
