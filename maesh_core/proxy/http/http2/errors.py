"""The errors that end a stream or a connection of HTTP/2, with their codes (RFC 9113 section 5.4)."""


class StreamError(Exception):
    """A stream must be reset with `code` (section 5.4.2)."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Http2ConnectionError(Exception):
    """The connection must end with `code` (section 5.4.1)."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
