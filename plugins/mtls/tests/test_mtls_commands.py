"""The commands, against controllers that a test scripts."""

import msgspec
import pytest
from maesh_mtls.commands import LOST_LOOKS, RevokeCommand, RotateCommand, StatusCommand, ask, render_report
from maesh_mtls.wire import REVOCATIONS_PATH, ROTATION_PATH, STATUS_PATH

from maesh_core.plugin import ConfigurationError, ControllerUnreachableError

ONE = {"subject": "CN=one", "fingerprint": "1" * 64, "ends": "2036-01-01T00:00:00Z"}
OTHER = {"subject": "CN=other", "fingerprint": "2" * 64, "ends": "2036-01-01T00:00:00Z"}
SETTLED = {"phase": "settled", "since": "", "until": "", "waiting": []}
SPREAD = {"phase": "spread", "since": "S", "until": "U", "waiting": ["a", "b"]}
NODE = {
    "node": "a",
    "address": "10.0.0.1",
    "state": "valid",
    "ends": "E",
    "serial": "0A",
    "trust": True,
    "signer": True,
    "revoked": False,
    "problem": "",
}


def build_report(**changes):
    report = {"place": "/ca", "signer": ONE, "trusted": [ONE], "rotation": SETTLED, "nodes": [NODE]}
    return {**report, "revoked": [], "problems": [], **changes}


class Api:
    """The API of a controller that returns these reports, the last one again and again."""

    name = "one"

    def __init__(self, *reports, error=None):
        self.reports, self.error, self.posted = list(reports) or [build_report()], error, []

    async def fetch(self, path):
        assert path == STATUS_PATH
        if self.error is not None:
            raise self.error
        report = self.reports.pop(0) if len(self.reports) > 1 else self.reports[0]
        if isinstance(report, Exception):
            raise report
        return report if isinstance(report, bytes) else msgspec.json.encode(report)

    async def post(self, path, body):
        self.posted.append((path, msgspec.json.decode(body)))
        return b"done\n"


ROTATE = {"wait": False, "abort": False, "proceed": False}


async def test_the_status_is_printed():
    result = await StatusCommand().run([Api()], {})
    assert result.status == 0
    assert result.document == build_report()
    assert result.text.splitlines() == [
        "authority in /ca",
        f"  signs: CN=one, {'1' * 16}, until 2036-01-01T00:00:00Z",
        f"  trusted: CN=one, {'1' * 16}, until 2036-01-01T00:00:00Z",
        "rotation: no rotation is under way",
        "",
        "NODE  CERTIFICATE  UNTIL  SERIAL  FOLLOWS THE AUTHORITY",
        "a     valid        E      0A      yes",
    ]


async def test_problems_change_the_exit_status():
    report = build_report(problems=["a: the certificate has ended"])
    result = await StatusCommand().run([Api(report)], {})
    assert result.status == 3
    assert result.text.splitlines()[-2:] == ["problems", "  a: the certificate has ended"]


def test_a_rotation_and_what_is_revoked_are_shown():
    nodes = [{**NODE, "trust": False}, {**NODE, "signer": False}, {**NODE, "revoked": True}]
    revoked = [{"node": "a", "serial": "", "at": "T"}, {"node": "b", "serial": "0B", "at": "T"}]
    text = render_report(build_report(rotation=SPREAD, nodes=nodes, revoked=revoked))
    for line in (
        "rotation: nodes learn to trust the new authority, and the former one signs",
        "  since S, at most until U; waits for a, b",
        "a     valid        E      0A      signer",
        "a     valid        E      0A      no",
        "a     revoked      E      0A      yes",
        "revoked: a (the node) since T",
        "revoked: b 0B since T",
    ):
        assert line in text.splitlines()


def test_of_many_nodes_the_first_are_shown():
    text = render_report(build_report(nodes=[NODE] * 120))
    assert text.splitlines()[-1] == "and 20 more, see --json"
    assert render_report(build_report(nodes=[])).splitlines()[-1] == "no proxy reports a certificate"


async def test_a_rotation_is_started_and_waited_for():
    renewing = build_report(rotation={**SPREAD, "phase": "renew"}, signer=OTHER, trusted=[ONE, OTHER])
    api = Api(build_report(), build_report(), build_report(rotation=SPREAD), renewing, build_report(signer=OTHER))
    pauses = []

    async def pause(seconds):
        pauses.append(seconds)

    result = await RotateCommand(pause).run([api], {**ROTATE, "wait": True})
    assert api.posted == [(ROTATION_PATH, {"action": "start"})]
    assert result.text.splitlines() == ["done", f"done: CN=other, {'2' * 16}, until 2036-01-01T00:00:00Z signs"]
    assert len(pauses) == 3


@pytest.mark.parametrize("action", ["abort", "proceed"])
async def test_a_rotation_is_aborted_or_hastened(action):
    api = Api()
    await RotateCommand().run([api], {**ROTATE, action: True, "wait": True})
    assert api.posted == [(ROTATION_PATH, {"action": action})]


async def test_abort_and_proceed_exclude_each_other():
    with pytest.raises(ConfigurationError, match="exclude"):
        await RotateCommand().run([Api()], {**ROTATE, "abort": True, "proceed": True})


async def test_a_node_or_a_certificate_is_revoked():
    api = Api()
    for serial, undo in (("", False), ("0A", True)):
        result = await RevokeCommand().run([api], {"node": "a", "serial": serial, "undo": undo})
        assert result.text == "done"
    first, second = api.posted
    assert first == (REVOCATIONS_PATH, {"node": "a", "serial": "", "undo": False})
    assert second == (REVOCATIONS_PATH, {"node": "a", "serial": "0A", "undo": True})


async def test_the_next_controller_is_asked_if_one_cannot_be_reached():
    gone, here = Api(error=ControllerUnreachableError("gone")), Api()
    assert msgspec.json.decode(await ask([gone, here], lambda api: api.fetch(STATUS_PATH))) == build_report()
    with pytest.raises(ControllerUnreachableError):
        await ask([here, gone][1:], lambda api: api.fetch(STATUS_PATH))


@pytest.mark.parametrize("answer", [b"{", b"[]", b"{}"])
async def test_an_answer_that_is_no_report_is_an_error(answer):
    with pytest.raises(ConfigurationError, match="not a report"):
        await StatusCommand().run([Api(answer)], {})


async def test_a_wait_survives_a_moment_without_a_controller_but_not_a_minute():
    gone = ControllerUnreachableError("gone")

    async def pause(seconds):
        pass

    api = Api(build_report(), *[gone] * LOST_LOOKS, build_report(rotation=SPREAD), gone, build_report(signer=OTHER))
    result = await RotateCommand(pause).run([api], {**ROTATE, "wait": True})
    assert result.text.splitlines()[-1].startswith("done: CN=other")
    with pytest.raises(ControllerUnreachableError):
        await RotateCommand(pause).run([Api(build_report(), gone)], {**ROTATE, "wait": True})
