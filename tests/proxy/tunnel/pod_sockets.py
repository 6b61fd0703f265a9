"""Reads from the sockets of a pod, which a receiver has connected to."""

import asyncio

loop = asyncio.get_running_loop


async def receive(sock, size):
    """Read so many bytes, or fewer if the other side ends before."""
    data = bytearray()
    while len(data) < size:
        piece = await loop().sock_recv(sock, min(262144, size - len(data)))
        if not piece:
            break
        data += piece
    return bytes(data)
