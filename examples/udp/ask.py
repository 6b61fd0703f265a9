"""Send a few datagrams to an entrypoint and print the answers: `ask.py [HOST:PORT]`, by default 127.0.0.1:15000.

All leave from one port, so the mesh takes them for one session, with one server; another run is another session.
"""

import socket
import sys

TIMEOUT_S = 2.0


def main() -> int:
    """Ask three times; status 1 when an answer does not come."""
    host, _, port = (sys.argv[1] if sys.argv[1:] else "127.0.0.1:15000").rpartition(":")
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.settimeout(TIMEOUT_S)
        try:
            client.connect((host, int(port)))
            for word in ("one", "two", "three"):
                client.send(word.encode())
                print(client.recv(65536).decode())
        except OSError as error:
            print(f"no answer: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
