"""Requests and responses for the tests of connections to servers."""

GET = b"GET / HTTP/1.1\r\nHost: a.test.maesh\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a.test.maesh\r\nContent-Length: 3\r\n\r\nabc"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def ask(world, request=GET):
    client = world.open_client()
    client.send(request)
    return client, await world.accept()


def is_502(answer):
    return answer.startswith(b"HTTP/1.1 502 ")
