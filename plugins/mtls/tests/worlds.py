"""A controller that follows an authority in a folder, with one node, in fake time."""

from maesh_mtls import MtlsSettings
from maesh_mtls.controller.authority.ca import make_authority
from maesh_mtls.controller.authority.effective import get_key_id, read_effective
from maesh_mtls.controller.authority.folder_store import FolderStore
from maesh_mtls.controller.authority.keeper import read_now
from maesh_mtls.controller.authority.state import parse_state
from maesh_mtls.controller.modes import MtlsRules
from maesh_mtls.controller.rotation.service import RotationService
from maesh_mtls.trust import hash_trust

from maesh_core.plugin import NodeReport, TransportReport


class Controller:
    """A `ControllerNode` with one node, whose proxy reports what a test sets."""

    def __init__(self):
        self.is_leader, self.problems, self.refreshed = True, {}, 0
        self.mesh_nodes, self.reports, self.is_complete = {"a": None}, [], True
        self.lists = 0

    async def list_proxies(self):
        self.lists += 1
        return self.reports, self.is_complete

    def list_own_proxies(self):
        return self.reports

    def refresh_transport(self):
        self.refreshed += 1

    def report(self, origin, problem):
        self.problems.pop(origin, None)
        if problem is not None:
            self.problems[origin] = problem


class World:
    """A controller, the folder with its authority, and its service of rotations."""

    def __init__(self, folder):
        self.store = FolderStore(folder)
        self.store.write_now(make_authority(read_now()), "", version="")
        self.now = read_now().timestamp()
        self.controller, self.rules = Controller(), MtlsRules(MtlsSettings(), now=lambda: self.now)
        self.service = self.start_service(self.controller)

    def start_service(self, controller):
        return RotationService(controller, self.store, self.rules, step_s=60.0, now=lambda: self.now, pause=self.pause)

    async def pause(self, seconds):
        self.now += seconds

    def read(self):
        return self.store.load_now()

    def get_phase(self):
        return parse_state(self.read().rotation).phase

    def follow(self):
        """Let the proxy report that it follows the authority."""
        effective = read_effective(self.read(), read_now())
        facts = {
            "state": "valid",
            "starts": f"{self.now:.0f}",
            "ends": f"{self.now + 86_400:.0f}",
            "trust": hash_trust(effective.bundle),
            "authority": get_key_id(effective),
        }
        self.set_report(facts)

    def set_report(self, facts, **more):
        report = NodeReport(
            name="a",
            ip="10.0.0.1",
            revision="e.1",
            last_seen="",
            transport=TransportReport(facts=facts),
            **{"ready": True, **more},
        )
        self.controller.reports = [report]

    def replace_authority(self):
        stored = self.read()
        self.store.write_now(make_authority(read_now()), stored.rotation, version=stored.version)
