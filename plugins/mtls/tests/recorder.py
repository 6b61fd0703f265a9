"""The end of a connection in a test: a protocol that records what happens to it."""

import asyncio


class Recorder:
    """A protocol that records its outcome."""

    def __init__(self):
        self.transport, self.failure, self.lost = None, None, []
        self.data = bytearray()
        self.seen = asyncio.Event()

    def connection_made(self, transport):
        self.transport = transport
        self.seen.set()

    def open_failed(self, failure):
        self.failure = failure
        self.seen.set()

    def data_received(self, data):
        self.data += data

    def eof_received(self):
        return False

    def connection_lost(self, error):
        self.lost.append(error)

    def pause_writing(self):
        pass

    def resume_writing(self):
        pass


async def wait_until(condition):
    """Wait until sockets have done their part."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - sockets take their time
            await asyncio.sleep(0.001)
