"""Renders suggestions: as YAML with comments, ready to be applied after reading, and as a document for JSON.

Takes suggestions, whose texts may come from clients. A comment is always one line, and YAML escapes what is not
printable ASCII. Pure.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from maesh_acl.suggesting import Suggestions
from maesh_acl.suggesting.documents import Suggestion
from maesh_core.plugin import ObjectKey

WIDTH = 120
"""The longest line of a comment, and of YAML where it can be folded."""
SHOWN_CLIENTS = 5


def render_yaml(found: Suggestions, remarks: Sequence[str] = ()) -> str:
    """Render suggestions as one YAML file; the first comments sum up, with remarks about the input."""
    blocks = [_render_comments([*_summarize(found), *remarks]), *map(render_suggestion, found.suggestions)]
    return "---\n".join(blocks).rstrip("\n")


def render_suggestion(each: Suggestion) -> str:
    """Render the objects of a suggestion as YAML, after comments with what they are for and its notes."""
    import yaml  # only where it is needed: it is slow to import

    comments = _render_comments([_describe(each), *(f"note: {note}" for note in each.rule.notes)])
    texts = [yaml.safe_dump(document, sort_keys=False, width=WIDTH) for document in each.documents]
    return comments + "---\n".join(texts)


def render_document(found: Suggestions) -> dict[str, Any]:
    """Render suggestions for JSON."""
    return {
        "suggestions": [_build_summary(each) for each in found.suggestions],
        "leftOut": msgspec.to_builtins(found.left_out),
        "allowed": found.allowed,
    }


def _build_summary(each: Suggestion) -> dict[str, Any]:
    rule = each.rule
    return {
        "name": each.name,
        "namespace": each.namespace,
        "clients": [_render_account(client) for client in rule.clients],
        "destination": _render_account(rule.group.account),
        "port": rule.group.port,
        "trafficType": rule.traffic_type,
        "services": list(rule.services),
        "opens": list(rule.leaves),
        "alsoOpens": list(rule.also_opens),
        "requests": [
            {"pathRegex": request.path.pattern, "path": request.path.label, "methods": list(request.methods)}
            for request in rule.requests
        ],
        "count": rule.count,
        "first": rule.first,
        "last": rule.last,
        "notes": list(rule.notes),
        "objects": list(each.documents),
    }


def _render_account(account: ObjectKey) -> Mapping[str, str]:
    return {"namespace": account.namespace, "serviceAccount": account.name}


def _summarize(found: Suggestions) -> Iterable[str]:
    number = len(found.suggestions)
    if number:
        verb = "allows" if number == 1 else "allow"
        yield f"{_count(number, 'TrafficTarget')} {verb} what was observed and no rule allows yet; read before applying"
    elif not found.left_out and not found.allowed:
        yield "nothing was observed, so there is nothing to suggest"
    else:
        yield "there is nothing to suggest"
    if found.allowed:
        yield f"allowed already: {_count(found.allowed, 'request')}"
    for left in found.left_out:
        yield f"left out: {_count(left.count, 'request')}: {left.reason}; for example {left.example}"


def _describe(each: Suggestion) -> str:
    rule = each.rule
    clients = [str(client) for client in rule.clients]
    shown = ", ".join(clients[:SHOWN_CLIENTS])
    more = f" and {len(clients) - SHOWN_CLIENTS} more" if len(clients) > SHOWN_CLIENTS else ""
    when = f", first {rule.first}, last {rule.last}" if rule.first else ""
    noun = {"http": "request", "tcp": "connection"}.get(rule.traffic_type, "session")
    return f"{shown}{more} to {', '.join(rule.services)}: {_count(rule.count, noun)}{when}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _render_comments(texts: Iterable[str]) -> str:
    """Render texts as comments, a line each: white space, which includes every line end of YAML, becomes a space."""
    return "".join(f"# {' '.join(text.split())}\n" for text in texts)
