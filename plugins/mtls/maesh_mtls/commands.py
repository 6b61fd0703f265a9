"""The commands `maesh mtls status`, `rotate` and `revoke`.

Takes the APIs of controllers and what was typed; returns text and JSON. The first controller that answers is asked: all
controllers know the same authority.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from maesh_core.plugin import (
    CommandApi,
    CommandArgument,
    CommandResult,
    CommandSwitch,
    CommandValues,
    ConfigurationError,
    ControllerUnreachableError,
)
from maesh_mtls.wire import REVOCATIONS_PATH, ROTATION_PATH, STATUS_PATH, RevocationOrder, RotationOrder

PROBLEM_STATUS: Final = 3
"""The exit status of `status` if there is a problem, as of `maesh status`."""
LOOK_S: Final = 2.0
LOST_LOOKS: Final = 30
"""So many times in a row, no controller may answer while a command waits."""
NODES_SHOWN: Final = 100
PHASES: Final = {
    "settled": "no rotation is under way",
    "spread": "nodes learn to trust the new authority, and the former one signs",
    "renew": "the new authority signs, and nodes get new certificates",
}

Report = Mapping[str, Any]


class StatusCommand:
    """`maesh mtls status`."""

    name = "status"
    text = "Show the authority, the phase of a rotation, each node's certificate, and problems."
    arguments: Sequence[CommandArgument] = ()
    switches: Sequence[CommandSwitch] = ()

    async def run(self, apis: Sequence[CommandApi], values: CommandValues) -> CommandResult:
        """Show the report of a controller."""
        report = await read_report(apis)
        status = PROBLEM_STATUS if report["problems"] else 0
        return CommandResult(text=render_report(report), document=report, status=status)


class RotateCommand:
    """`maesh mtls rotate`."""

    name = "rotate"
    text = "Replace the authority by a new one, in phases, without a gap."
    arguments: Sequence[CommandArgument] = ()
    switches: Sequence[CommandSwitch] = (
        CommandSwitch(name="wait", text="Wait until the rotation is done."),
        CommandSwitch(name="abort", text="Keep the former authority. Possible until the new one signs."),
        CommandSwitch(
            name="proceed", text="Do not wait any longer for nodes that have not reported; they may be cut off."
        ),
    )

    def __init__(self, pause: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._pause = pause

    async def run(self, apis: Sequence[CommandApi], values: CommandValues) -> CommandResult:
        """Start, abort or hasten a rotation."""
        if values["abort"] and values["proceed"]:
            raise ConfigurationError("--abort and --proceed exclude each other")
        before = await read_report(apis)
        action = "abort" if values["abort"] else "proceed" if values["proceed"] else "start"
        order = msgspec.json.encode(RotationOrder(action=action))  # type: ignore[arg-type]
        text = await ask(apis, lambda api: api.post(ROTATION_PATH, order))
        lines = [text.decode("utf-8", "replace").strip()]
        if values["wait"]:
            report = await self._wait(apis, before, is_new=action == "start")
            lines.append(f"done: {_render_certificate(report['signer'])} signs")
        elif action == "start":
            lines.append("`maesh mtls status` shows its phases")
        return CommandResult(text="\n".join(lines), document={"text": lines[0]})

    async def _wait(self, apis: Sequence[CommandApi], before: Report, *, is_new: bool) -> Report:
        """Return the report once no rotation is under way, and, with `is_new`, another authority signs."""
        former, lost = before["signer"], 0
        while True:
            try:
                report = await read_report(apis)
            except ControllerUnreachableError:
                lost += 1
                if lost > LOST_LOOKS:
                    raise
            else:
                lost = 0
                is_other = report["signer"] != former or not is_new
                if report["rotation"]["phase"] == "settled" and is_other and len(report["trusted"]) == 1:
                    return report
            await self._pause(LOOK_S)


class RevokeCommand:
    """`maesh mtls revoke`."""

    name = "revoke"
    text = "Refuse a node, or one certificate of it, until this is undone."
    arguments: Sequence[CommandArgument] = (
        CommandArgument(name="node", text="The name of the node."),
        CommandArgument(
            name="serial", text="The serial number of one certificate; default: the node.", is_required=False
        ),
    )
    switches: Sequence[CommandSwitch] = (CommandSwitch(name="undo", text="Accept it again."),)

    async def run(self, apis: Sequence[CommandApi], values: CommandValues) -> CommandResult:
        """Revoke, or undo it."""
        order = RevocationOrder(node=str(values["node"]), serial=str(values["serial"]), undo=bool(values["undo"]))
        body = msgspec.json.encode(order)
        text = (await ask(apis, lambda api: api.post(REVOCATIONS_PATH, body))).decode("utf-8", "replace").strip()
        return CommandResult(text=text, document={"text": text})


COMMANDS: Final = (StatusCommand(), RotateCommand(), RevokeCommand())


async def ask(apis: Sequence[CommandApi], send: Callable[[CommandApi], Awaitable[bytes]]) -> bytes:
    """Ask the controllers one after the other, until one is reached. Raises MaeshError.

    A change that was sent is never sent again: its controller may have made it.
    """
    for api in apis[:-1]:
        try:
            return await send(api)
        except ControllerUnreachableError:
            continue
    return await send(apis[-1])


async def read_report(apis: Sequence[CommandApi]) -> Report:
    """Read the report of a controller. Raises MaeshError."""
    body = await ask(apis, lambda api: api.fetch(STATUS_PATH))
    try:
        report: Report = msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"the controller's answer is not a report: {error}") from error
    if not {"place", "rotation", "nodes", "revoked", "problems", "trusted", "signer"} <= report.keys():
        raise ConfigurationError("the controller's answer is not a report")
    return report


def render_report(report: Report) -> str:
    """Render the report for a terminal."""
    lines = [f"authority in {report['place']}"]
    if report["signer"]:
        lines.append(f"  signs: {_render_certificate(report['signer'])}")
        lines += [f"  trusted: {_render_certificate(each)}" for each in report["trusted"]]
    lines += _render_rotation(report["rotation"])
    lines += ["", *_render_nodes(report["nodes"])]
    lines += [
        f"revoked: {each['node']} {each['serial'] or '(the node)'} since {each['at']}" for each in report["revoked"]
    ]
    if report["problems"]:
        lines += ["", "problems", *(f"  {text}" for text in report["problems"])]
    return "\n".join(lines)


def _render_certificate(certificate: Mapping[str, str]) -> str:
    return f"{certificate['subject']}, {certificate['fingerprint'][:16]}, until {certificate['ends']}"


def _render_rotation(rotation: Mapping[str, Any]) -> list[str]:
    phase = rotation["phase"]
    lines = [f"rotation: {PHASES.get(phase, phase)}"]
    if rotation["since"]:
        waiting = ", ".join(rotation["waiting"][:NODES_SHOWN]) or "nothing but time"
        lines.append(f"  since {rotation['since']}, at most until {rotation['until']}; waits for {waiting}")
    return lines


def _render_nodes(nodes: Sequence[Mapping[str, Any]]) -> list[str]:
    if not nodes:
        return ["no proxy reports a certificate"]
    rows = [("NODE", "CERTIFICATE", "UNTIL", "SERIAL", "FOLLOWS THE AUTHORITY")]
    for each in nodes[:NODES_SHOWN]:
        state = "revoked" if each["revoked"] else each["state"]
        follows = "yes" if each["trust"] and each["signer"] else "signer" if each["signer"] else "no"
        rows.append((each["node"], state, each["ends"], each["serial"], follows))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [*lines, f"and {len(nodes) - NODES_SHOWN} more, see --json"] if len(nodes) > NODES_SHOWN else lines
