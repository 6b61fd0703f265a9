"""Asks an API server for something, to see whether a login is accepted."""

import json

NODES = "/api/v1/nodes"


async def get(client):
    return json.loads(await client.get(NODES))
