"""What a line of JSON is, without anything that is remembered or rendered together."""

import time
from collections.abc import Callable, Sequence

from maesh_access_log.texts import LINE_LIMIT_BYTES, SHORT_TEXT_LIMIT, TEXT_LIMIT, escape

from maesh_core.model.traffic_record import TrafficRecord

FindPod = Callable[[str, float], str]


def render_reference(record: TrafficRecord, headers: Sequence[str] = (), find_pod: FindPod | None = None) -> str:
    """Render a record as one line of JSON; a line that is too long has shorter texts."""
    line = _render(record, headers, find_pod, TEXT_LIMIT)
    return line if len(line) <= LINE_LIMIT_BYTES else _render(record, headers, find_pod, SHORT_TEXT_LIMIT)


def _render(record: TrafficRecord, headers: Sequence[str], find_pod: FindPod | None, limit: int) -> str:
    second = int(record.started_at)
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
    milliseconds = int((record.started_at - second) * 1000)
    pod = find_pod(record.client, record.started_at) if find_pod is not None else ""
    upstream = "null" if record.upstream_s is None else str(int(record.upstream_s * 1e9 + 0.5))
    parts = {
        "StartUTC": _quote(f"{moment}.{milliseconds:03}Z", limit),
        "ClientHost": f'"{record.client}"',
        "ClientPod": _quote(pod, limit),
        "RequestPath": _quote(record.target, limit),
        "RequestHost": _quote(record.host, limit),
        "entryPointName": f'"{record.entrypoint}"',
        "RouterName": _quote(record.service, limit),
        "ServiceName": _quote(record.destination, limit),
        "ServiceAddr": _quote(record.server, limit),
    }
    if record.server_path:
        parts |= {"ServerPath": _quote(record.server_path, limit), "ServerNode": _quote(record.server_node, limit)}
    parts |= {
        "Kind": _quote(record.kind, limit),
        "RequestProtocol": _quote(record.protocol, limit),
        "RequestMethod": _quote(record.method, limit),
        "Attempts": str(record.attempts),
        "RetryAttempts": str(max(0, record.attempts - 1)),
        "DownstreamStatus": str(record.status),
        "GrpcStatus": "null" if record.grpc_status is None else str(record.grpc_status),
        "Reason": _quote(record.reason, limit),
    }
    if record.would_deny:
        parts["WouldDeny"] = _quote(record.would_deny, limit)
    parts |= {
        "RequestContentSize": str(record.received_bytes),
        "DownstreamContentSize": str(record.sent_bytes),
        "Duration": str(int(record.duration_s * 1e9 + 0.5)),
        "OriginDuration": upstream,
    }
    for name in headers:
        value = record.headers.get(name.encode()) if record.headers is not None else None
        if value is not None:
            parts[f"request_{name}"] = _quote(value, limit)
    return "{" + ",".join(f'"{name}":{value}' for name, value in parts.items()) + "}\n"


def _quote(text: bytes | str, limit: int) -> str:
    return f'"{escape(text, limit)}"'
