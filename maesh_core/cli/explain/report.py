"""The text of `maesh explain`: the steps of a request, its result, and the errors and notices that concern it.

Takes an explanation and returns text. Mentions each error once, and only the first ones of many; `--json` has all.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from maesh_core.controller.explaining.destinations import Destination
from maesh_core.controller.explaining.explanation import Explanation
from maesh_core.controller.explaining.objects import ObjectRemarks
from maesh_core.process.printable import escape_unprintable

REMARKS_SHOWN = 10
PROBLEMS_SHOWN = 5


def render_explanation(found: Explanation) -> str:
    """Render an explanation: its steps and its result, then errors and notices of the objects involved."""
    blocks = ["\n".join(map(escape_unprintable, [*found.steps, *_render_end(found)]))]
    if remarks := list(map(escape_unprintable, _list_remarks(found.objects, found.steps))):
        blocks.append(_cut(remarks, REMARKS_SHOWN))
    if found.problems:
        blocks.append(_cut(_list_problems(found.problems), PROBLEMS_SHOWN))
    return "\n\n".join(blocks)


def _render_end(found: Explanation) -> Iterable[str]:
    if not found.is_admitted:
        dropped = "the datagram is dropped" if found.traffic_type == "udp" else "the connection is closed"
        yield f"the response is {found.status}" if found.status else dropped
        return
    unless = f", unless {' or '.join(found.undecided)} refuses it," if found.undecided else ","
    yield f"it is allowed{unless} and goes to"
    for each in found.destinations:
        scheme = f"  {each.scheme} ({each.scheme_source or 'default'})" if each.scheme else ""
        mode = f"  encryption {each.encryption}" if each.encryption else ""
        servers = ", ".join(each.servers) or _describe_answer(each)
        yield f"  {each.service}  {each.share:.2%}  {servers}{scheme}{mode}"


def _describe_answer(found: Destination) -> str:
    """Describe what happens to a share without servers."""
    if not found.reason:
        return "no ready server"
    return f"{found.status}: {found.reason}" if found.status else f"none: {found.reason}"


def _list_remarks(objects: Iterable[ObjectRemarks], steps: Sequence[str]) -> Iterable[str]:
    """List each error and notice once: services repeat those of their targets and splits, steps those of services."""
    shown = list(steps)
    for each in objects:
        names_it = re.compile(
            rf"{re.escape(each.kind)} ({re.escape(each.namespace)}/)?{re.escape(each.name)}(?![\w.-])"
        )
        for what, texts in (("error", each.errors), ("notice", each.notices)):
            for text in texts:
                if any(text in line and (each.kind == "Service" or names_it.search(line)) for line in shown):
                    continue
                line = f"{what}: {each.kind} {each.namespace}/{each.name}: {text}"
                shown.append(line)
                yield line


def _list_problems(problems: Mapping[str, str]) -> Sequence[str]:
    return [f"not read and therefore ignored: {origin}: {' '.join(text.split())}" for origin, text in problems.items()]


def _cut(lines: Sequence[str], limit: int) -> str:
    rest = len(lines) - limit
    return "\n".join([*lines[:limit], *([f"... and {rest} more, see --json"] if rest > 0 else [])])
