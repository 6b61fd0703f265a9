"""Call the example's service through the mesh, and print the responses: `client.py [METHOD] [TEXT] [HOST:PORT]`.

The method is `hello` (the default), `count` or `chat`. Without a mesh in between, name a server instead of the proxy:
`client.py hello world 127.0.7.1:8806`. Needs grpcio.
"""

import sys
from collections.abc import Iterator

try:
    import grpc
except ModuleNotFoundError:
    sys.exit("This client needs grpcio: `make grpc` installs it.")
from messages import decode, encode

PROXY = "127.0.0.1:5000"
HOST = "greeter.grpc.maesh"
"""The name of the service in the mesh. In a cluster it is the address; here it is sent as :authority to the proxy."""
TIMEOUT_S = 5.0


def main() -> int:
    """Make one call; status 1 if it fails."""
    name, text, address, *surplus = [*sys.argv[1:], *("hello", "world", PROXY)[len(sys.argv[1:]) :]]
    if surplus or name not in ("hello", "count", "chat"):
        print("Usage: client.py [hello | count | chat] [TEXT] [HOST:PORT]", file=sys.stderr)
        return 2
    with grpc.insecure_channel(address, options=(("grpc.default_authority", HOST),)) as channel:
        try:
            for response in call(channel, name, text):
                print(response)
        except grpc.RpcError as error:
            print(f"{error.code().name}: {error.details()}", file=sys.stderr)
            return 1
    return 0


def call(channel: grpc.Channel, name: str, text: str) -> Iterator[str]:
    """Call a method, and yield its responses."""
    coding = {"request_serializer": encode, "response_deserializer": decode}
    method = f"/greeter.Greeter/{name.capitalize()}"
    if name == "count":
        yield from channel.unary_stream(method, **coding)(text, timeout=TIMEOUT_S)
    elif name == "chat":
        yield from channel.stream_stream(method, **coding)(iter(text.split()), timeout=TIMEOUT_S)
    else:
        yield channel.unary_unary(method, **coding)(text, timeout=TIMEOUT_S)


if __name__ == "__main__":
    sys.exit(main())
