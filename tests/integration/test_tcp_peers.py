"""Foreign programs through a TCP entrypoint: Redis and PostgreSQL as servers, psql and smtplib as clients.

None of them knows that a mesh stands between: commands, pipelines, pushes, TLS and what binds a password to it.
"""

import contextlib
import os
import pwd
import shutil
import signal
import smtplib
import socket
import socketserver
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import cast

import pytest
import trustme

pytestmark = [pytest.mark.integration, pytest.mark.peer]

TCP = {"traffic-type": "tcp"}
MEGABYTE = 1 << 20
PASSWORD = "a password of the test"


class RedisClient:
    """Speaks RESP2 over one connection: commands go out as they are, and replies are read one by one."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), 60)
        self._replies = self.socket.makefile("rb")

    def close(self):
        self._replies.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.close()

    def call(self, *words):
        self.send(words)
        return self.read()

    def send(self, *commands):
        self.socket.sendall(b"".join(map(render_command, commands)))

    def read(self):
        line = self._replies.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the connection ended")
        kind, rest = line[:1], line[1:-2]
        if kind == b"$":
            return None if rest == b"-1" else self._replies.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self.read() for _ in range(int(rest))]
        assert kind in b"+:", line
        return int(rest) if kind == b":" else rest


def render_command(words):
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n%b" % (len(words), b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words))


@pytest.fixture
def start_process():
    """Start a process that ends with the test."""
    with contextlib.ExitStack() as stack:

        def start(*command, **options):
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **options)
            stack.callback(process.wait, 20)
            stack.callback(process.kill)
            return process

        yield start


class Redis:
    """A Redis server on a port of its own, which can be stopped and started; its key `name` holds its name."""

    def __init__(self, name, port, start):
        self.name, self.port, self._start = name, port, start
        self._process = None

    def start(self):
        self._process = self._start(self.port)

    def set_name(self):
        with RedisClient(self.port) as client:
            return client.call("SET", "name", self.name) == b"OK"

    def stop(self):
        self._process.terminate()
        self._process.wait(60)


@pytest.fixture
def start_redis(program, start_process, free_port, tmp_path, wait_until):
    """Start a Redis server that keeps nothing."""
    path = program("redis-server")

    def start_server(port):
        options = ("--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", tmp_path)
        return start_process(path, "--port", str(port), *options)

    def start(name):
        redis = Redis(name, free_port(), start_server)
        redis.start()
        wait_until(lambda: answers(redis.port), f"Redis {name}")
        redis.set_name()
        return redis

    return start


def answers(port):
    try:
        with RedisClient(port) as client:
            return client.call("PING") == b"PONG"
    except OSError:
        return False


@pytest.fixture
def carry(up, manifests, build_service, free_port):
    """Start a mesh in front of a TCP service with servers on these ports; gives the mesh and the entrypoint."""

    def carry(*ports):
        manifests.write("app.json", build_service("app", *ports, annotations=TCP))
        mesh = up(manifests.path, "--tcp-port", free_port(), "--limit-tcp-port", 1, "--limit-http-port", 1)
        ((port,),) = [service["ports"] for service in mesh.services]
        return mesh, port["entrypoint"]

    return carry


# --- Redis ------------------------------------------------------------------------------------------------------------


def test_redis_answers_commands_in_order_and_pushes_messages(start_redis, carry):
    _, entrypoint = carry(start_redis("blue").port)
    with RedisClient(entrypoint) as client, RedisClient(entrypoint) as listener:
        assert client.call("SET", "key", "value") == b"OK"
        assert client.call("GET", "key") == b"value"
        assert client.call("GET", "none") is None
        assert listener.call("SUBSCRIBE", "news") == [b"subscribe", b"news", 1]
        assert client.call("PUBLISH", "news", "late") == 1
        assert listener.read() == [b"message", b"news", b"late"]


def test_redis_cli_works_as_it_does_without_a_mesh(program, start_redis, carry):
    cli = program("redis-cli")
    _, entrypoint = carry(start_redis("blue").port)
    command = [cli, "-h", "127.0.0.1", "-p", str(entrypoint), "GET", "name"]
    assert subprocess.run(command, capture_output=True, timeout=60, check=True).stdout == b"blue\n"


def test_a_pipeline_of_thousands_of_commands_is_answered_whole_and_in_order(start_redis, carry):
    _, entrypoint = carry(start_redis("blue").port)
    count = 20_000
    with RedisClient(entrypoint) as client:
        sender = threading.Thread(target=client.send, args=[("ECHO", number) for number in range(count)])
        sender.start()
        assert [client.read() for _ in range(count)] == [b"%d" % number for number in range(count)]
        sender.join(60)


def test_values_of_many_megabytes_arrive_whole_both_ways_at_once(start_redis, carry):
    _, entrypoint = carry(start_redis("blue").port)
    values = [os.urandom(8 * MEGABYTE) for _ in range(3)]
    with RedisClient(entrypoint) as client:
        sender = threading.Thread(target=client.send, args=[("ECHO", value) for value in values])
        sender.start()
        for value in values:
            assert client.read() == value
        sender.join(60)


def test_a_server_that_is_stopped_is_passed_over_and_comes_back(start_redis, carry, wait_until):
    blue, green = start_redis("blue"), start_redis("green")
    mesh, entrypoint = carry(blue.port, green.port)

    def read_name():
        with RedisClient(entrypoint) as client:
            return client.call("GET", "name")

    assert {read_name() for _ in range(4)} == {b"blue", b"green"}
    blue.stop()
    assert [read_name() for _ in range(20)] == [b"green"] * 20
    blue.start()
    wait_until(lambda: answers(blue.port) and blue.set_name(), "the stopped server's return")
    wait_until(lambda: read_name() == b"blue", "its share of the clients")
    assert mesh.command.status is None


def test_a_client_whose_server_ends_is_told_so_and_finds_the_other(start_redis, carry):
    blue, green = start_redis("blue"), start_redis("green")
    _, entrypoint = carry(blue.port, green.port)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(RedisClient(entrypoint)) for _ in range(4)]
        names = [client.call("GET", "name") for client in clients]
        assert sorted(names) == [b"blue"] * 2 + [b"green"] * 2
        blue.stop()
        for client, name in zip(clients, names, strict=True):
            if name == b"green":
                assert client.call("PING") == b"PONG"
            else:
                with pytest.raises(ConnectionError):
                    client.call("PING")
        with RedisClient(entrypoint) as client:
            assert client.call("GET", "name") == b"green"


def test_an_open_connection_may_end_its_work_in_a_drain_and_no_other_begins(start_redis, carry, wait_until):
    mesh, entrypoint = carry(start_redis("blue").port)
    client = RedisClient(entrypoint)
    assert client.call("SET", "key", "before") == b"OK"
    mesh.command.process.send_signal(signal.SIGTERM)
    wait_until(lambda: not answers(entrypoint), "the closed entrypoint")
    assert mesh.command.status is None
    assert client.call("GET", "key") == b"before"
    assert client.call("SET", "key", "in the drain") == b"OK"
    client.close()
    assert mesh.command.wait() == 0


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


def find_postgresql(name):
    """Find a server's program, which Debian keeps off the path, or skip the test."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    path = shutil.which(name) or (found[-1] if found else None)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def find_unprivileged():
    """Find who PostgreSQL may run as, as options of subprocess: it refuses to be root's."""
    if os.geteuid():
        return {}
    names = [entry.pw_name for entry in pwd.getpwall()]
    account = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def cluster(authority):
    """Make a database cluster whose one user has a password and whose server has TLS; gives its folder."""
    initdb, owner = find_postgresql("initdb"), find_unprivileged()
    with tempfile.TemporaryDirectory(prefix="maesh-postgresql-") as name:  # pytest's folders are root's alone
        folder = Path(name)
        certificate = authority.issue_cert("localhost")
        (folder / "server.crt").write_bytes(certificate.cert_chain_pems[0].bytes())
        (folder / "server.key").write_bytes(certificate.private_key_pem.bytes())
        (folder / "password").write_text(PASSWORD)
        for path in (folder, *folder.iterdir()):
            path.chmod(0o700 if path.is_dir() else 0o600)
            if owner:
                os.chown(path, owner["user"], owner["group"])
        options = ("-U", "maesh", "-A", "scram-sha-256", "--pwfile", folder / "password")
        layout = ("-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions")
        command = (initdb, "-D", folder / "data", *options, *layout)
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, timeout=60, **owner)
        yield folder


@pytest.fixture
def postgresql(cluster, start_process, free_port, wait_until, psql):
    """Run PostgreSQL with TLS; gives its port."""
    port = free_port()
    options = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "ssl": "on",
        "ssl_cert_file": cluster / "server.crt",
        "ssl_key_file": cluster / "server.key",
        "fsync": "off",
        "shared_buffers": "16MB",
    }
    settings = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    command = (find_postgresql("postgres"), "-D", cluster / "data", "-p", str(port), *settings)
    server = start_process(*command, cwd=cluster, stderr=subprocess.DEVNULL, **find_unprivileged())
    wait_until(lambda: psql(port, "SELECT 1", check=False) == "1", "PostgreSQL")
    yield port
    server.send_signal(signal.SIGINT)  # its fast shutdown, which takes its own children along
    server.wait(60)


@pytest.fixture
def psql(program, tmp_path, authority, environment):
    """Run one statement through psql; gives what it wrote."""
    path = program("psql")
    authority.cert_pem.write_to_path(str(tmp_path / "root.crt"))

    def run(port, statement, *, check=True, stdin=None, **settings):
        place = {"PGHOST": "localhost", "PGHOSTADDR": "127.0.0.1", "PGPORT": str(port), "PGUSER": "maesh"}
        known = {"PGPASSWORD": PASSWORD, "PGDATABASE": "postgres", "PGSSLROOTCERT": str(tmp_path / "root.crt")}
        asked = {f"PG{name.upper()}": value for name, value in settings.items()}
        command = [path, "--no-psqlrc", "-At", "-v", "ON_ERROR_STOP=1", "-c", statement]
        done = subprocess.run(
            command, input=stdin or b"", capture_output=True, timeout=60, env={**environment, **place, **known, **asked}
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout.decode().rstrip("\n")

    return run


def test_psql_gets_answers_with_tls_and_without(postgresql, carry, psql):
    _, entrypoint = carry(postgresql)
    is_encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    assert psql(entrypoint, is_encrypted, sslmode="disable") == "f"
    assert psql(entrypoint, is_encrypted, sslmode="require") == "t"


def test_tls_ends_at_the_server_itself(postgresql, carry, psql):
    """The certificate is the server's, and the password is bound to the connection that showed it (RFC 5929)."""
    _, entrypoint = carry(postgresql)
    assert psql(entrypoint, "SELECT 1", sslmode="verify-full", channelbinding="require") == "1"


def test_rows_of_many_megabytes_arrive_whole_in_both_directions(postgresql, carry, psql):
    _, entrypoint = carry(postgresql)
    rows = "\n".join(f"{number}\t{os.urandom(2000).hex()}" for number in range(2000))
    assert psql(entrypoint, "CREATE TABLE rows (number int, text text)", sslmode="require") == "CREATE TABLE"
    try:
        psql(entrypoint, "COPY rows FROM STDIN", stdin=f"{rows}\n".encode(), sslmode="require")
        assert psql(entrypoint, "COPY (SELECT * FROM rows ORDER BY number) TO STDOUT", sslmode="require") == rows
    finally:
        psql(postgresql, "DROP TABLE rows")


# --- a server that speaks first ---------------------------------------------------------------------------------------


class MailHandler(socketserver.StreamRequestHandler):
    """As much of SMTP as takes one message."""

    timeout = 20

    def handle(self):
        self.say("220 mail.test ready")
        while line := self.rfile.readline():
            verb = line[:4].strip().upper()
            if verb == b"DATA":
                self.say("354 go on")
                cast("MailServer", self.server).messages.append(b"".join(iter(self.rfile.readline, b".\r\n")))
            self.say("221 bye" if verb == b"QUIT" else "250 ok")
            if verb == b"QUIT":
                return

    def say(self, text):
        self.wfile.write(f"{text}\r\n".encode())


class MailServer(socketserver.ThreadingTCPServer):
    messages: list[bytes]


@pytest.fixture
def mail_server():
    with MailServer(("127.0.0.1", 0), MailHandler) as server:
        server.daemon_threads, server.messages = True, []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join(60)


def test_a_server_may_speak_first(mail_server, carry):
    _, entrypoint = carry(mail_server.server_address[1])
    with smtplib.SMTP("127.0.0.1", entrypoint, local_hostname="client.test", timeout=60) as client:
        client.sendmail("a@test", ["b@test"], "Subject: hello\r\n\r\nthrough the mesh\r\n")
    assert mail_server.messages == [b"Subject: hello\r\n\r\nthrough the mesh\r\n"]
