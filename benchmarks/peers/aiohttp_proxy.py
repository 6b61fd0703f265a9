"""A reverse proxy as one writes it in an afternoon with aiohttp: what Maesh would be without an engine of its own.

Takes its port, the hosts' names and the two servers; bodies stream both ways, connections are kept, uvloop carries it.
"""

import asyncio
import itertools
import socket
import sys

import aiohttp
import uvloop
from aiohttp import web

PORT, HOST, STAMPED_HOST, *SERVERS = sys.argv[1:]
NAME, TURNS = socket.gethostname(), itertools.cycle(SERVERS)
HOP_BY_HOP = ("Connection", "Keep-Alive", "Proxy-Connection", "TE", "Trailer", "Transfer-Encoding", "Upgrade")


async def forward(request: web.BaseRequest) -> web.StreamResponse:
    if (host := request.host.partition(":")[0]) not in (HOST, STAMPED_HOST):
        return web.Response(status=404)
    stamp = {"X-Team": "payments"} if host == STAMPED_HOST else {}
    client = request.remote or ""
    headers = request.headers.copy()
    headers.update({"X-Forwarded-For": client, "X-Forwarded-Host": request.host, "X-Forwarded-Port": PORT, **stamp})
    headers.update({"X-Forwarded-Proto": "http", "X-Forwarded-Server": NAME, "X-Real-Ip": client})
    body = request.content if request.body_exists else None
    url = next(TURNS) + request.raw_path
    async with SESSIONS[0].request(request.method, url, headers=headers, data=body, allow_redirects=False) as answer:
        kept = {name: value for name, value in answer.headers.items() if name not in HOP_BY_HOP}
        response = web.StreamResponse(status=answer.status, headers={**kept, **stamp})
        await response.prepare(request)
        async for part in answer.content.iter_any():
            await response.write(part)
        return response


SESSIONS: list[aiohttp.ClientSession] = []


async def run() -> None:
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=300)
    SESSIONS.append(aiohttp.ClientSession(connector=connector, auto_decompress=False))
    runner = web.ServerRunner(web.Server(forward, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(PORT), backlog=4096).start()
    await asyncio.Event().wait()


uvloop.run(run())
