"""Renders a record as one line that ends with a line feed: as common log format, as JSON, or by a template.

Takes records and returns text. Every text that a client or an object's name could contain is escaped (texts.py), so a
line has no control character. What repeats is remembered, which makes JSON several times as fast: the time as long as
the second lasts, texts, and the pieces of JSON about a client, a place and an outcome. JSON is rendered in batches.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from maesh_access_log.templates import COMMON, HEADER_PREFIX, JSON, LITERAL_LIMIT, parse_template
from maesh_access_log.texts import (
    LINE_LIMIT_BYTES,
    REMEMBERED_PIECES,
    SHORT_TEXT_LIMIT,
    TEXT_LIMIT,
    Clients,
    Pieces,
    Texts,
)
from maesh_core.plugin import PodNames, RecordPlace, TrafficRecord

_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MILLISECONDS: Final = [f"{each:03}" for each in range(1000)]
_JSON_MILLISECONDS: Final = [f'{each}Z","ClientHost":"' for each in _MILLISECONDS]
_SIZES: Final = [str(each) for each in range(1000)]
_JSON_SIZES: Final = [f',"DownstreamContentSize":{each},"Duration":' for each in range(1000)]
_NONE: Final = "-"
_END: Final = "}\n"
_ORIGIN_DURATION: Final = ',"OriginDuration":'
_NUMBERS_LIMIT: Final = 512
"""More than all numbers and times of a line of JSON, with the names of their fields."""
_ORDINARY: Final = bytes(each for each in range(0x20, 0x7F) if each not in b'"\\') + b"\n"
"""The characters of texts that need no escape, and the one that is put between them."""

Render = Callable[[TrafficRecord], str]


class Renderer:
    """Renders records in one format. `short` renders lines that would be longer than LINE_LIMIT_BYTES."""

    __slots__ = (
        "_changed_at",
        "_clients",
        "_form",
        "_headers",
        "_known_routes",
        "_last_outcome",
        "_last_piece",
        "_messages",
        "_names",
        "_outcomes",
        "_pattern",
        "_pods",
        "_reads",
        "_routes",
        "_second",
        "_short",
        "_time",
    )

    def __init__(
        self, texts: Callable[[], Texts], short: "Renderer | None" = None, pods: PodNames | None = None
    ) -> None:
        self._short = short
        self._pods: Any = pods
        self._changed_at = 0.0
        """When the names of pods changed last, as far as `_clients` knows."""
        self._clients: Any = Clients(self._build_client)
        self._form = ""
        self._messages: Any = texts()
        self._names: Any = texts()
        self._routes: Any = Pieces(self._build_route)
        self._outcomes: Any = Pieces(self._build_outcome)
        self._known_routes: dict[RecordPlace, str] = {}
        """The pieces of `_routes` by the places themselves, which is faster."""
        self._last_outcome: Any = None
        self._last_piece = ""
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

    def set_form(self, form: str) -> None:
        """Set the format of `render`, if it is not a template."""
        self._form = form

    def set_template(self, literals: tuple[str, ...], names: Sequence[str]) -> None:
        """Set the template of `render_template`."""
        self._pattern = "%s".join(each.replace("%", "%%") for each in literals) + "\n"
        self._reads = [self._find_reader(name) for name in names]

    def render_all(self, records: list[TrafficRecord], note_failure: Callable[[Exception], None]) -> tuple[str, int]:
        """Render each record by the format that was set; return all lines, and their number.

        A record that cannot be rendered is noted, and left out.
        """
        self.follow_pods()
        if self._form == JSON:
            return self._render_json_lines(records, note_failure)
        lines = []
        for record in records:
            try:
                lines.append(self.render(record))
            except Exception as error:  # a record that cannot be rendered affects no other
                note_failure(error)
        return "".join(lines), len(lines)

    def follow_pods(self) -> None:
        """Forget the clients whose pods may have changed."""
        pods = self._pods
        if pods is not None and pods.changed_at != self._changed_at:
            self._changed_at = pods.changed_at
            self._clients.clear()
            if self._short is not None:
                self._short.follow_pods()

    def render(self, record: TrafficRecord) -> str:
        """Render a record by the format that was set."""
        if self._form == JSON:
            return self.render_json(record)
        return self.render_common(record) if self._form == COMMON else self.render_template(record)

    def render_json(self, record: TrafficRecord) -> str:
        """Render an object with Traefik's names of the fields."""
        values = record.list_values()
        pieces: list[str] = []
        if self._add_json(pieces, record, values, self._messages[values[4]]) > LINE_LIMIT_BYTES:
            self._shorten(pieces, 0, record)
        return "".join(pieces)

    def _render_json_lines(
        self, records: list[TrafficRecord], note_failure: Callable[[Exception], None]
    ) -> tuple[str, int]:
        """Render lines of JSON together: the pieces of all lines are joined at once."""
        listed = [record.list_values() for record in records]
        targets = self._escape_all([values[4] for values in listed])
        pieces: list[str] = []
        messages, count = self._messages, 0
        for number, record in enumerate(records):
            values, target, start = listed[number], targets[number], len(pieces)
            try:
                if len(target) > TEXT_LIMIT:
                    target = messages[values[4]]
                if self._add_json(pieces, record, values, target) > LINE_LIMIT_BYTES:
                    self._shorten(pieces, start, record)
                count += 1
            except Exception as error:  # a record that cannot be rendered affects no other
                del pieces[start:]
                note_failure(error)
        return "".join(pieces), count

    def _escape_all(self, messages: list[bytes]) -> list[str]:
        """Escape texts of clients, and cut long ones if one has to be escaped; ordinary texts are decoded together."""
        joined = b"\n".join(messages)
        if not joined.translate(None, _ORDINARY):
            texts = joined.decode("ascii").split("\n")
            if len(texts) == len(messages):
                return texts
        escaped: Any = self._messages
        return [escaped[each] for each in messages]

    def _add_json(self, pieces: list[str], record: TrafficRecord, values: tuple[Any, ...], target: str) -> int:
        """Add the pieces of one line; return a bound of its length."""
        started: float = values[0]
        duration_s: float = values[1]
        client: str = values[3]
        received: int = values[5]
        sent: int = values[6]
        second = int(started)
        if second != self._second:
            self._set_second(second, '{"StartUTC":"%Y-%m-%dT%H:%M:%S.')
        whose: str = self._clients[client] if started >= self._changed_at else self._render_client(client, started)
        route = self._known_routes.get(values[7])
        if route is None:
            route = self._find_route(values[7])
        if values[8] is not self._last_outcome:
            self._last_outcome, self._last_piece = values[8], self._outcomes[values[8].list_values()]
        end = self._render_headers(record) if self._headers else _END
        pieces.append(self._time)
        pieces.append(_JSON_MILLISECONDS[int((started - second) * 1000)])
        pieces.append(whose)
        pieces.append(target)
        pieces.append(route)
        pieces.append(self._last_piece)
        pieces.append(_SIZES[received] if 0 <= received < 1000 else str(received))
        pieces.append(_JSON_SIZES[sent] if 0 <= sent < 1000 else _render_sent(sent))
        pieces.append(str(int(duration_s * 1e9 + 0.5)))
        pieces.append(_ORIGIN_DURATION)
        pieces.append(_render_nanoseconds(values[2]))
        pieces.append(end)
        return _NUMBERS_LIMIT + len(whose) + len(target) + len(route) + len(self._last_piece) + len(end)

    def _shorten(self, pieces: list[str], start: int, record: TrafficRecord) -> None:
        """Replace the pieces of a line, from `start`, if the line is too long."""
        if self._short is not None and sum(map(len, pieces[start:])) > LINE_LIMIT_BYTES:
            del pieces[start:]
            pieces.append(self._short.render_json(record))

    def _find_route(self, place: RecordPlace) -> str:
        """Find the piece of a place that is not remembered; it is remembered if its values are."""
        values, routes, known = place.list_values(), self._routes, self._known_routes
        route: str = routes[values]
        if values in routes:
            if len(known) >= REMEMBERED_PIECES:
                known.clear()
            known[place] = route
        return route

    def render_common(self, record: TrafficRecord) -> str:
        """Render Traefik's common log format, with the number of attempts in place of its counter of requests."""
        values = record.list_values()
        service, _, server, *_ = record.place.list_values()
        _, protocol, method, attempts, status, _, reason, _ = record.outcome.list_values()
        second = int(values[0])
        if second != self._second:
            self._set_second(second, "%d/%b/%Y:%H:%M:%S +0000")
        duration_s: float = values[1]
        client: str = values[3]
        sent: int = values[6]
        messages, names, headers = self._messages, self._names, record.headers
        referer = agent = b""
        if headers is not None:
            referer, agent = headers.get(b"referer") or b"", headers.get(b"user-agent") or b""
        line = (
            f"{client} - - [{self._time}] "
            f'"{messages[method] or _NONE} {messages[values[4]] or _NONE} {protocol}" '
            f'{status} {sent} "{messages[referer] or _NONE}" "{messages[agent] or _NONE}" '
            f'{attempts} "{names[service] or _NONE}" "{server or _NONE}" '
            f'{int(duration_s * 1000 + 0.5)}ms "{names[reason] or _NONE}"\n'
        )
        return line if len(line) <= LINE_LIMIT_BYTES or self._short is None else self._short.render_common(record)

    def render_template(self, record: TrafficRecord) -> str:
        """Render the template."""
        line = self._pattern % tuple([read(record) for read in self._reads])
        if len(line) > LINE_LIMIT_BYTES - LITERAL_LIMIT and self._short is not None:
            return self._short.render_template(record)
        return line

    def _build_client(self, client: str) -> str:
        """Build the part of a JSON line that repeats for each client, as long as no name of a pod changes."""
        return self._render_client(client, self._changed_at)

    def _render_client(self, client: str, started: float) -> str:
        return f'{client}","ClientPod":"{self._find_pod(client, started)}","RequestPath":"'

    def _find_pod(self, client: str, started: float) -> str:
        pods = self._pods
        return "" if pods is None else str(self._names[pods.find(client, started)])

    def _build_route(
        self, service: str, destination: str, server: str, path: str, node: str, host: bytes, entrypoint: int
    ) -> str:
        """Build the part of a JSON line that repeats for each server; `path` is empty without encryption."""
        messages, names = self._messages, self._names
        encryption = f',"ServerPath":"{names[path]}","ServerNode":"{names[node]}"' if path else ""
        return (
            f'","RequestHost":"{messages[host]}","entryPointName":"{entrypoint}","RouterName":"{names[service]}"'
            f',"ServiceName":"{names[destination]}","ServiceAddr":"{names[server]}"{encryption}'
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
        would_deny: str,
    ) -> str:
        """Build the part of a JSON line that repeats for each outcome."""
        messages, names = self._messages, self._names
        audit = f',"WouldDeny":"{names[would_deny]}"' if would_deny else ""
        return (
            f',"Kind":"{names[kind]}","RequestProtocol":"{names[protocol]}","RequestMethod":"{messages[method]}"'
            f',"Attempts":{attempts},"RetryAttempts":{attempts - 1 if attempts > 1 else 0}'
            f',"DownstreamStatus":{status},"GrpcStatus":{"null" if grpc_status is None else grpc_status}'
            f',"Reason":"{names[reason]}"{audit},"RequestContentSize":'
        )

    def _set_second(self, second: int, form: str) -> None:
        """Render the time of a second; the month does not depend on the locale."""
        moment = time.gmtime(second)
        self._time = time.strftime(form.replace("%b", _MONTHS[moment.tm_mon - 1]), moment)
        self._second = second

    def _render_headers(self, record: TrafficRecord) -> str:
        """Render the headers and the end of a JSON line."""
        headers = record.headers
        parts = []
        for name, start in self._headers:
            value = headers.get(name) if headers is not None else None
            if value is not None:
                parts.append(f'{start}{self._messages[value]}"')
        parts.append(_END)
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
            "ClientPod": lambda record: self._find_pod(record.client, record.started_at) or _NONE,
            "entryPointName": lambda record: str(record.entrypoint),
            "RequestProtocol": lambda record: str(record.protocol),
            "RequestMethod": lambda record: messages[record.method] or _NONE,
            "RequestHost": lambda record: messages[record.host] or _NONE,
            "RequestPath": lambda record: messages[record.target] or _NONE,
            "RouterName": lambda record: names[record.service] or _NONE,
            "ServiceName": lambda record: names[record.destination] or _NONE,
            "ServiceAddr": lambda record: str(record.server) or _NONE,
            "ServerPath": lambda record: str(record.server_path) or _NONE,
            "ServerNode": lambda record: names[record.server_node] or _NONE,
            "Attempts": lambda record: str(record.attempts),
            "RetryAttempts": lambda record: str(max(0, record.attempts - 1)),
            "DownstreamStatus": lambda record: str(record.status),
            "GrpcStatus": lambda record: _NONE if record.grpc_status is None else str(record.grpc_status),
            "Reason": lambda record: names[record.reason] or _NONE,
            "WouldDeny": lambda record: names[record.would_deny] or _NONE,
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


def _render_sent(size: int) -> str:
    return f',"DownstreamContentSize":{size},"Duration":'


def _render_nanoseconds(seconds: float | None) -> str:
    return "null" if seconds is None else str(int(seconds * 1e9 + 0.5))


def render_milliseconds(seconds: float | None) -> str:
    """Render seconds as milliseconds with three decimals; `-` for None."""
    return _NONE if seconds is None else f"{seconds * 1000:.3f}"


def build_renderer(form: str, headers: Sequence[str] = (), pods: PodNames | None = None) -> Renderer:
    """Build the renderer of a format; no line is longer than LINE_LIMIT_BYTES. Without `pods`, no client is named."""
    short = Renderer(lambda: Texts(SHORT_TEXT_LIMIT), None, pods)
    renderer = Renderer(Texts, short, pods)
    if form in (COMMON, JSON):
        renderer.set_form(form)
        renderer.add_headers(headers)
        short.add_headers(headers)
        return renderer
    literals, names = parse_template(form)
    renderer.set_template(literals, names)
    short.set_template(literals, names)
    return renderer
