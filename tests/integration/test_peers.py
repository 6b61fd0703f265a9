"""Foreign programs on both sides of the proxy: nginx as the server, curl as the client."""

import contextlib
import subprocess

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.peer]

NGINX = """\
daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    root {folder};
    location = /hello {{ return 200 "hello from nginx"; }}
    location = /old {{ return 301 /hello; }}
    location = /empty {{ return 204; }}
  }}
}}
"""


@pytest.fixture
def nginx(program, tmp_path, free_port, get, wait_until):
    """Run nginx with a few answers and one large file; gives its port."""
    folder, port = tmp_path / "nginx", free_port()
    folder.mkdir()
    folder.chmod(0o755)
    (folder / "large").write_bytes(bytes(range(256)) * 4096)
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port))
    with contextlib.ExitStack() as stack:
        process = subprocess.Popen(
            [program("nginx"), "-c", folder / "nginx.conf", "-p", folder], stderr=subprocess.DEVNULL
        )
        stack.callback(process.wait, 60)
        stack.callback(process.terminate)
        wait_until(lambda: get(port, path="/hello").status == 200, "nginx")
        yield port


@pytest.fixture
def curl(program, up, manifests, build_service, nginx):
    """Call nginx through the mesh with curl; gives what curl wrote."""
    path = program("curl")
    manifests.write("web.json", build_service("web", nginx))
    port = up(manifests.path).http_port

    def call(*arguments):
        command = [path, "-sS", "--max-time", "20", "-H", "Host: web.test.maesh"]
        urls = [
            f"http://127.0.0.1:{port}{argument}" if argument.startswith("/") else argument for argument in arguments
        ]
        return subprocess.run([*command, *urls], capture_output=True, timeout=60, check=True).stdout

    return call


def test_curl_gets_what_nginx_serves(curl):
    assert curl("/hello") == b"hello from nginx"


def test_curl_gets_a_large_body_whole(curl):
    assert curl("/large") == bytes(range(256)) * 4096


def test_curl_gets_a_part_of_a_body(curl):
    assert curl("-r", "256-511", "/large") == bytes(range(256))


def test_curl_uses_one_connection_for_many_requests(curl):
    written = curl("-w", "%{num_connects} ", *["/hello"] * 5)
    assert written == b"hello from nginx1 " + b"hello from nginx0 " * 4


def test_curl_head_has_the_length_and_no_body(curl):
    head = curl("-I", "/large").lower()
    assert head.startswith(b"http/1.1 200")
    assert b"content-length: 1048576\r\n" in head


def test_curl_gets_statuses_without_a_body(curl):
    assert curl("-o/dev/null", "-w", "%{http_code}", "/empty") == b"204"
    assert curl("-o/dev/null", "-w", "%{http_code} %{redirect_url}", "/old").startswith(b"301 ")


def test_curl_speaking_http_1_0_is_served(curl):
    assert curl("--http1.0", "/hello") == b"hello from nginx"


def test_curl_gets_405_for_what_nginx_does_not_take(curl):
    assert curl("-o/dev/null", "-w", "%{http_code}", "-d", "body", "/large") == b"405"
