"""Renders a record as one line that ends with a line feed: as common log format, as JSON, or by a template.

Takes records and returns text. Every text that a client or an object's name could contain is escaped (texts.py), so a
line has no control character. What repeats is remembered, which makes JSON twice as fast: the time as long as the
second lasts, texts, and the pieces of JSON about a server and an outcome.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from maesh_access_log.templates import COMMON, HEADER_PREFIX, JSON, LITERAL_LIMIT, parse_template
from maesh_access_log.texts import LINE_LIMIT_BYTES, SHORT_TEXT_LIMIT, Pieces, Texts
from maesh_core.plugin import TrafficRecord

_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MILLISECONDS: Final = [f"{each:03}" for each in range(1000)]
_NONE: Final = "-"

Render = Callable[[TrafficRecord], str]


class Renderer:
    """Renders records in one format. `short` renders lines that would be longer than LINE_LIMIT_BYTES."""

    __slots__ = (
        "_headers",
        "_messages",
        "_names",
        "_outcomes",
        "_pattern",
        "_reads",
        "_routes",
        "_second",
        "_short",
        "_time",
    )

    def __init__(self, texts: Callable[[], Texts], short: "Renderer | None" = None) -> None:
        self._short = short
        self._messages: Any = texts()
        self._names: Any = texts()
        self._routes: Any = Pieces(self._build_route)
        self._outcomes: Any = Pieces(self._build_outcome)
        self._second = -1
        self._time = ""
        self._headers: list[tuple[bytes, str]] = []
        self._pattern = ""
        self._reads: list[Render] = []

    def __repr__(self) -> str:
        return f"<Renderer {self._messages!r} {self._names!r}>"

    def add_headers(self, names: Sequence[str]) -> None:
        """Add headers of requests to the lines of `render_json`."""
        self._headers = [(name.encode(), f',"{HEADER_PREFIX}{name}":"') for name in names]

    def set_template(self, literals: tuple[str, ...], names: Sequence[str]) -> None:
        """Set the template of `render_template`."""
        self._pattern = "%s".join(each.replace("%", "%%") for each in literals) + "\n"
        self._reads = [self._find_reader(name) for name in names]

    def render_json(self, record: TrafficRecord) -> str:
        """Render an object with Traefik's names of the fields."""
        started = record.started_at
        second = int(started)
        if second != self._second:
            self._set_second(second, "%Y-%m-%dT%H:%M:%S")
        upstream_s = record.upstream_s
        route = self._routes[record.service, record.destination, record.server, record.host, record.entrypoint]
        outcome = self._outcomes[
            record.kind,
            record.protocol,
            record.method,
            record.attempts,
            record.status,
            record.grpc_status,
            record.reason,
        ]
        line = (
            f'{{"StartUTC":"{self._time}.{_MILLISECONDS[int((started - second) * 1000)]}Z"'
            f',"ClientHost":"{record.client}","RequestPath":"{self._messages[record.target]}"{route}{outcome}'
            f',"RequestContentSize":{record.received_bytes},"DownstreamContentSize":{record.sent_bytes}'
            f',"Duration":{int(record.duration_s * 1e9 + 0.5)}'
            f',"OriginDuration":{"null" if upstream_s is None else int(upstream_s * 1e9 + 0.5)}'
        )
        if self._headers:
            line += self._render_headers(record)
        line += "}\n"
        return line if len(line) <= LINE_LIMIT_BYTES or self._short is None else self._short.render_json(record)

    def render_common(self, record: TrafficRecord) -> str:
        """Render Traefik's common log format, with the number of attempts in place of its counter of requests."""
        second = int(record.started_at)
        if second != self._second:
            self._set_second(second, "%d/%b/%Y:%H:%M:%S +0000")
        messages, names, headers = self._messages, self._names, record.headers
        referer = agent = b""
        if headers is not None:
            referer, agent = headers.get(b"referer") or b"", headers.get(b"user-agent") or b""
        line = (
            f"{record.client} - - [{self._time}] "
            f'"{messages[record.method] or _NONE} {messages[record.target] or _NONE} {record.protocol}" '
            f'{record.status} {record.sent_bytes} "{messages[referer] or _NONE}" "{messages[agent] or _NONE}" '
            f'{record.attempts} "{names[record.service] or _NONE}" "{record.server or _NONE}" '
            f'{int(record.duration_s * 1000 + 0.5)}ms "{names[record.reason] or _NONE}"\n'
        )
        return line if len(line) <= LINE_LIMIT_BYTES or self._short is None else self._short.render_common(record)

    def render_template(self, record: TrafficRecord) -> str:
        """Render the template."""
        line = self._pattern % tuple([read(record) for read in self._reads])
        if len(line) > LINE_LIMIT_BYTES - LITERAL_LIMIT and self._short is not None:
            return self._short.render_template(record)
        return line

    def _build_route(self, service: str, destination: str, server: str, host: bytes, entrypoint: int) -> str:
        """Build the part of a JSON line that repeats for each server."""
        messages, names = self._messages, self._names
        return (
            f',"RequestHost":"{messages[host]}","entryPointName":"{entrypoint}","RouterName":"{names[service]}"'
            f',"ServiceName":"{names[destination]}","ServiceAddr":"{names[server]}"'
        )

    def _build_outcome(
        self,
        kind: str,
        protocol: str,
        method: bytes,
        attempts: int,
        status: int,
        grpc_status: int | None,
        reason: str,
    ) -> str:
        """Build the part of a JSON line that repeats for each outcome."""
        messages, names = self._messages, self._names
        return (
            f',"Kind":"{names[kind]}","RequestProtocol":"{names[protocol]}","RequestMethod":"{messages[method]}"'
            f',"Attempts":{attempts},"RetryAttempts":{attempts - 1 if attempts > 1 else 0}'
            f',"DownstreamStatus":{status},"GrpcStatus":{"null" if grpc_status is None else grpc_status}'
            f',"Reason":"{names[reason]}"'
        )

    def _set_second(self, second: int, form: str) -> None:
        """Render the time of a second; the month does not depend on the locale."""
        moment = time.gmtime(second)
        self._time = time.strftime(form.replace("%b", _MONTHS[moment.tm_mon - 1]), moment)
        self._second = second

    def _render_headers(self, record: TrafficRecord) -> str:
        headers = record.headers
        parts = []
        for name, start in self._headers:
            value = headers.get(name) if headers is not None else None
            if value is not None:
                parts.append(f'{start}{self._messages[value]}"')
        return "".join(parts)

    def _read_time(self, record: TrafficRecord) -> str:
        second = int(record.started_at)
        if second != self._second:
            self._set_second(second, "%Y-%m-%dT%H:%M:%S")
        return f"{self._time}.{_MILLISECONDS[int((record.started_at - second) * 1000)]}Z"

    def _find_reader(self, name: str) -> Render:
        """Find what reads a field; a text without a value is `-`."""
        messages, names = self._messages, self._names
        if name.startswith(HEADER_PREFIX):
            header = name.removeprefix(HEADER_PREFIX).encode()
            return lambda record: _NONE if record.headers is None else messages[record.headers.get(header) or b"-"]
        readers: dict[str, Render] = {
            "StartUTC": self._read_time,
            "Kind": lambda record: str(record.kind),
            "ClientHost": lambda record: str(record.client),
            "entryPointName": lambda record: str(record.entrypoint),
            "RequestProtocol": lambda record: str(record.protocol),
            "RequestMethod": lambda record: messages[record.method] or _NONE,
            "RequestHost": lambda record: messages[record.host] or _NONE,
            "RequestPath": lambda record: messages[record.target] or _NONE,
            "RouterName": lambda record: names[record.service] or _NONE,
            "ServiceName": lambda record: names[record.destination] or _NONE,
            "ServiceAddr": lambda record: str(record.server) or _NONE,
            "Attempts": lambda record: str(record.attempts),
            "RetryAttempts": lambda record: str(max(0, record.attempts - 1)),
            "DownstreamStatus": lambda record: str(record.status),
            "GrpcStatus": lambda record: _NONE if record.grpc_status is None else str(record.grpc_status),
            "Reason": lambda record: names[record.reason] or _NONE,
            "RequestContentSize": lambda record: str(record.received_bytes),
            "DownstreamContentSize": lambda record: str(record.sent_bytes),
            "Duration": lambda record: str(int(record.duration_s * 1e9 + 0.5)),
            "OriginDuration": lambda record: (
                _NONE if record.upstream_s is None else str(int(record.upstream_s * 1e9 + 0.5))
            ),
            "DurationMs": lambda record: render_milliseconds(record.duration_s),
            "OriginDurationMs": lambda record: render_milliseconds(record.upstream_s),
        }
        return readers[name]


def render_milliseconds(seconds: float | None) -> str:
    """Render seconds as milliseconds with three decimals; `-` for None."""
    return _NONE if seconds is None else f"{seconds * 1000:.3f}"


def build_renderer(form: str, headers: Sequence[str] = ()) -> Render:
    """Build the function that renders the lines of a format; no line is longer than LINE_LIMIT_BYTES."""
    short = Renderer(lambda: Texts(SHORT_TEXT_LIMIT))
    renderer = Renderer(Texts, short)
    if form == COMMON:
        return renderer.render_common
    if form == JSON:
        renderer.add_headers(headers)
        short.add_headers(headers)
        return renderer.render_json
    literals, names = parse_template(form)
    renderer.set_template(literals, names)
    short.set_template(literals, names)
    return renderer.render_template
