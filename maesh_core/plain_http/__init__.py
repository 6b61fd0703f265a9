"""A small HTTP/1.1 server on plain asyncio: for the proxy's admin port, and for the controller's API.

It answers from memory and forwards nothing, so it needs neither the proxy's engine (3 MB, and a library in compiled
form) nor aiohttp (13 MB). Knows no page and no process of the mesh.
"""
