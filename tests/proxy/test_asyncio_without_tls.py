"""asyncio and OpenSSL, in processes that have imported neither."""

import subprocess
import sys

import pytest

IMPORT = "from maesh_core.proxy.asyncio_without_tls import import_asyncio_without_tls as import_\n"
CHECK = "import sys\nprint(import_(), 'ssl' in sys.modules, 'asyncio' in sys.modules)\n"


@pytest.mark.parametrize(
    ("program", "printed"),
    [
        (IMPORT + CHECK, "True False True"),
        (IMPORT + CHECK + "import ssl\nprint(ssl.create_default_context().check_hostname)", "True False True True"),
        ("import ssl\n" + IMPORT + CHECK, "False True False"),
        ("import asyncio\n" + IMPORT + CHECK, "False True True"),
    ],
    ids=["alone", "ssl-afterwards", "ssl-before", "asyncio-before"],
)
def test_asyncio_is_without_ssl_unless_one_of_them_was_imported_before(program: str, printed: str) -> None:
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == printed.split()


def test_asyncio_without_ssl_serves_and_connects() -> None:
    program = """
import_()
import asyncio
async def main():
    async def serve(reader, writer):
        writer.write(await reader.readline())
        writer.close()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"hello\\n")
    print((await reader.read()).decode())
    writer.close()
    server.close()
asyncio.run(main())
"""
    ended = subprocess.run([sys.executable, "-c", IMPORT + program], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines() == ["hello", ""]
