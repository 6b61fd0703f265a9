"""A client that knows nothing: what it sends and what comes back is what is on the wire."""

import io
import json
from contextlib import asynccontextmanager

import aiohttp
import pytest


class Raw:
    """Sends requests as they are told; gives status, document and headers."""

    def __init__(self, server, session):
        self.server, self.session = server, session
        self.headers = {"Authorization": f"Bearer {server.token}"}

    async def send(self, method, path, body=None, *, content_type="application/json", headers=None):
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        sent = {"Content-Type": content_type} | (self.headers if headers is None else headers)
        async with self.session.request(
            method, self.server.url + path, data=content and io.BytesIO(content), headers=sent
        ) as response:
            text = await response.read()
            return response.status, json.loads(text or b"null"), response.headers

    async def __call__(self, method, path, body=None, **options):
        status, document, _ = await self.send(method, path, body, **options)
        return status, document

    @asynccontextmanager
    async def watch(self, path):
        """Open a watch; return a function that reads the next event, None at the end."""
        sign = "&" if "?" in path else "?"
        url = f"{self.server.url}{path}{sign}watch=true"
        async with self.session.get(url, headers=self.headers) as response:
            assert response.status == 200, await response.text()

            async def read():
                line = await response.content.readline()
                return json.loads(line) if line else None

            yield read


@pytest.fixture
async def raw(api_server):
    async with aiohttp.ClientSession() as session:
        yield Raw(api_server, session)


@pytest.fixture
def build_service():
    def build(name="app", **spec):
        ports = [{"name": "web", "port": 80}]
        return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": ports} | spec}

    return build
