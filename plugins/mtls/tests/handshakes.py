"""A TLS handshake in memory, with the arguments that the engine uses."""

import ssl


def shake_hands(client_context, server_context):
    """Complete a handshake; returns both ends, or raises what one of them raises."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    unfinished = [client, server]
    for _ in range(10):
        for end in list(unfinished):
            try:
                end.do_handshake()
                unfinished.remove(end)
            except ssl.SSLWantReadError:
                pass
        if not unfinished:
            return client, server
    raise AssertionError("the handshake does not end")
