"""docs/smi.md says what the code does: kinds and versions, errors, limits, metrics."""

import importlib.util
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from maesh_acl import AccessSettings
from maesh_acl.controller import ControllerHalf as AclHalf
from maesh_acl.kinds import KINDS as ACL_KINDS
from maesh_acl.proxy import _DENIED
from maesh_smi.checking import SplitChecker
from maesh_smi.kinds import KINDS as SMI_KINDS
from maesh_smi.kinds import MATCH_LIMIT as GROUP_LIMIT
from maesh_smi.kinds import PATTERN_LIMIT, WEIGHT_LIMIT
from maesh_smi.splits import BRANCH_LIMIT, DEPTH_LIMIT, MATCH_LIMIT

from maesh_core.controller.reports.object_reports import ObjectReports
from maesh_core.controller.topology.rules import TopologyRules
from maesh_core.model.findings import Findings
from maesh_core.model.patterns import PATTERN_LIMIT_CHARACTERS
from maesh_core.model.resources import Service
from maesh_testing.commands import MAESH

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "smi.md").read_text()


def load_cluster(name):
    path = ROOT / "plugins" / name / "tests" / "conftest.py"
    spec = importlib.util.spec_from_file_location(f"cluster_of_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SMI, ACL = load_cluster("smi"), load_cluster("acl")


def list_rows(head):
    """List the cells of the table with this head."""
    table = PAGE.partition(f"\n{head}\n")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()[1:]]


def read_errors(what):
    return {row[0].strip("`") for row in list_rows(f"| error of a {what} | effect |")}


def test_kinds_and_versions_are_those_of_the_plugins():
    plugins = {"smi": SMI_KINDS, "acl": ACL_KINDS}
    found = [
        [
            kind.name,
            kind.api_versions[0].partition("/")[0],
            ", ".join(version.partition("/")[2] for version in kind.api_versions),
            ", ".join(plugin for plugin, kinds in plugins.items() if kind in kinds),
        ]
        for name in dict.fromkeys((*(each.name for each in SMI_KINDS), *(each.name for each in ACL_KINDS)))
        for kind in [next(each for each in (*SMI_KINDS, *ACL_KINDS) if each.name == name)]
    ]
    assert list_rows("| kind | group | versions | plugin |") == found


def write_group(name, *matches):
    return "---\n" + yaml.safe_dump(ACL.build_group(name, *matches))


LARGE = {"name": "m", "headers": [{f"x{each}": "a"} for each in range(PATTERN_LIMIT + 1)]}
"""A match with too many regular expressions."""


def list_split_errors():
    """Make every error that a split can have, one mesh each."""
    web, v1, v2 = (SMI.write_service(name, f"10.0.{place}.1") for place, name in enumerate(("web", "v1", "v2")))
    other_port = SMI.write_service("v2", "10.0.2.1", port=81)
    tcp = SMI.write_service("v2", "10.0.2.1", annotations="maesh.containo.us/traffic-type: tcp")
    both, beta = (
        SMI.write_split("s", "web", {"v1": 1, "v2": 1}),
        SMI.write_split("s", "web", {"v1": 1}, matches=["beta"]),
    )
    heads = [write_group(f"g{each}", {"name": "m", "headers": [{f"x{each}": "1"}]}) for each in range(102)]
    below = [SMI.write_split(f"t{each:03}", "v1", {"v2": 1}, matches=[f"g{each}"]) for each in range(102)]
    many = [{"name": f"m{each}", "headers": [{"x": str(each)}]} for each in range(GROUP_LIMIT + 1)]
    chain = [SMI.write_service(f"c{each}", "10.9.0.1") for each in range(25)]
    links = [SMI.write_split(f"l{each}", f"c{each}", {f"c{each + 1}": 1}) for each in range(24)]
    for parts in (
        (v1, both),
        (v1, other_port, both),
        (v1, tcp, both),
        (v1, v2, SMI.write_split("s", "web", {"v1": 1, "v2": "many"})),
        (v1, beta),
        (v1, write_group("beta").replace("spec:\n  matches: []", "spec: {}"), beta),
        (v1, write_group("beta", {"path": "/"}), beta),
        (v1, write_group("beta", {"name": "m"}), beta.replace("name: beta}", "name: beta, apiGroup: apps}")),
        (v1, SMI.write_split("s", "web", {"v1": 1}).replace("backends", "backend")),
        (v1, write_group("beta", {"name": "m"}), beta.replace("name: beta}", "name: beta, matches: [testers]}")),
        (v1, SMI.write_split("s", "web", {"v1": 1}), SMI.write_split("t", "v1", {"web": 1})),
        (v1, v2, *heads, *below, SMI.write_split("s", "web", {"v1": 1})),
        (v1, v2, write_group("beta", *many[:101]), beta, SMI.write_split("t", "v1", {"v2": 1}, matches=["beta"])),
        (v1, write_group("beta", *many), beta),
        (v1, write_group("beta", LARGE), beta),
        (*chain, *links, SMI.write_split("s", "web", {"c0": 1})),
    ):
        yield from SMI.Cluster(web, *parts).list_errors()


def test_errors_of_splits_are_as_the_page_says():
    assert set(list_split_errors()) == read_errors("split")


def list_target_errors():
    """Make every error that a target can have."""
    mesh = (ACL.build_service("web"), ACL.build_pod("web-1", "10.0.1.1", "server", app="web"))
    group = ACL.build_group("api", {"name": "other", "pathRegex": "/"})
    many = ACL.build_group("api", *({"pathRegex": f"/{each}"} for each in range(GROUP_LIMIT + 1)))
    large = ACL.build_group("api", LARGE)
    wrong_kind = ACL.build_target("t", "server", ["caller"])
    wrong_kind["spec"]["destination"]["kind"] = "Group"
    misspelt = ACL.build_target("t", "server", ["caller"], [("TCPRoute", "api")])
    misspelt["spec"]["rules"][0]["match"] = ["read"]
    foreign = ACL.build_target("t", "server", ["caller"])
    foreign["metadata"]["namespace"] = "elsewhere"
    route = ACL.build_route("TCPRoute", "api")
    targets = [
        (misspelt,),
        (foreign,),
        (
            ACL.build_target("t", "server", ["caller"], [("HTTPRouteGroup", "api")]),
            ACL.build_group("api", {"path": "/"}),
        ),
        (ACL.build_target("t", "server", ["caller"], [("TCPRoute", "api", "read")]), route),
        (ACL.build_target("t", "server", ["caller"], [("TCPRoute", "api")]), {**route, "spec": {"ports": [80]}}),
        (ACL.build_target("t", "server", ["caller"], [("HTTPRouteGroup", "api")]),),
        (ACL.build_target("t", "server", ["caller"], [("HTTPRouteGroup", "api", "read")]), group),
        (ACL.build_target("t", "server", ["caller"], [("HTTPRouteGroup", "api")]), many),
        (ACL.build_target("t", "server", ["caller"], [("HTTPRouteGroup", "api")]), large),
        (ACL.build_target("t", "server", ["caller"], [("TCPRoute", "api")]),),
        (ACL.build_target("t", "server", ["caller"], [("GRPCRoute", "api")]),),
        (wrong_kind,),
        (ACL.build_target("t", "server", ["caller"], port="x"),),
        (ACL.build_target("t", "server", ["caller"], port=9090),),
    ]
    for objects in targets:
        for shown in ACL.Cluster(*mesh, *objects).build_node("web").sections["serviceTrafficTargets"].values():
            yield from shown.errors


def test_errors_of_targets_are_as_the_page_says():
    assert set(list_target_errors()) == read_errors("target")


def list_reported():
    """Make every text that an object without effect can have, with its kind."""
    web = ACL.build_service("web")
    server = ACL.build_pod("web-1", "10.0.1.1", "api", app="web")
    caller = ACL.build_pod("caller-1", "10.0.0.1", "web", app="caller")
    outside = ACL.build_service("web")
    outside["spec"] |= {"type": "ExternalName", "externalName": "example.org"}
    lost = ACL.build_target("t", "api", ["web"])
    nameless = ACL.build_target("t", "api", ["web"])
    del nameless["spec"]["sources"][0]["namespace"]
    tcp = ACL.build_service("web", kind="tcp")
    on_node = ACL.build_pod("caller-1", "10.0.0.1", "web")
    on_node["spec"]["hostNetwork"] = True
    narrow = [("TCPRoute", "one")]
    for objects in (
        (web, ACL.build_split("s", "wbe", {"web": 1})),
        (web, ACL.build_split("s", "web.other.svc", {"web": 1})),
        (outside, ACL.build_split("s", "web", {"web": 1})),
        (web, caller, lost),
        (web, ACL.build_pod("api-1", "10.0.1.1", "api"), caller, lost),
        (web, server, nameless),
        (web, server, lost),
        (web, server, ACL.build_target("t", "api", [])),
        (tcp, server, caller, lost),
        (web, server, caller, ACL.build_route("TCPRoute", "one", [1]), ACL.build_target("t", "api", ["web"], narrow)),
        (ACL.build_group("g", {"name": "m", "pathRegex": "/"}), ACL.build_route("TCPRoute", "r")),
        (ACL.build_route("UDPRoute", "r"),),
        (web, server, caller, ACL.build_pod("other", "10.0.0.1", "other"), lost),
        (web, server, on_node, lost),
    ):
        mesh = ACL.Cluster(*objects)
        checkers = [SplitChecker(), *AclHalf(AccessSettings()).maesh_object_checkers()]
        reports = ObjectReports(mesh.snapshot, ACL.ALL_KINDS, checkers, TopologyRules())
        for key in mesh.snapshot.keys(Service):
            if (node := mesh.build_node(key.name)) is not None:
                reports.set_service(key, Findings(), node.objects)
        reports.update(is_everything=True)
        for each in reports.list_reports():
            for text in (*each.errors, *each.notices):
                yield text, each.kind


def test_what_objects_without_effect_say_is_as_the_page_says():
    rows = list_rows("| text of an object without effect | kind |")
    documented = {(text.strip("`"), kind) for text, kinds in rows for kind in kinds.split(", ")}
    reported = {
        (text.replace("caller-1@shop (web@shop)", "other@shop (other@shop)"), kind) for text, kind in list_reported()
    }
    assert reported == documented


def test_limits_metrics_and_reasons_are_those_of_the_code():
    prose = " ".join(PAGE.split())
    assert f"from 0 to {WEIGHT_LIMIT:,}." in prose
    assert f"up to {DEPTH_LIMIT} levels of nested splits" in prose
    assert f"up to {BRANCH_LIMIT} branches of {MATCH_LIMIT:,} matches" in prose
    assert f"may select up to {GROUP_LIMIT:,} matches with {PATTERN_LIMIT:,} regular expressions" in prose
    assert f"may have {PATTERN_LIMIT_CHARACTERS} characters" in prose
    families = ACL.Cluster().factory.collect_metrics()
    assert [row[0] for row in list_rows("| metric | counts |")] == [f"`{family.name}_total`" for family in families]
    assert all(f"`{name}`" in PAGE for family in families for name in (*family.labels, *_DENIED))


def test_the_page_leads_to_pages_and_sections_that_exist():
    for path, anchor in re.findall(r"\]\(([^)#]+)(?:#([^)]+))?\)", PAGE):
        target = (ROOT / "docs" / path).resolve()
        assert target.exists(), path
        assert not anchor or f"# {anchor.replace('-', ' ')}\n" in target.read_text().lower()


@pytest.mark.parametrize("text", PAGE.split("```yaml\n")[1:])
def test_manifests_of_the_page_are_read(text):
    (kind,) = [kind for kind in ACL_KINDS + SMI_KINDS if f"kind: {kind.name}\n" in text.partition("spec:")[0]]
    document = yaml.safe_load(text.partition("```")[0])
    assert document["apiVersion"] == kind.api_versions[0]


@pytest.mark.integration
@pytest.mark.parametrize(("client", "status"), [("127.0.1.1", 0), ("127.0.1.2", 0), ("127.0.1.3", 3)])
def test_the_acl_example_is_explained(client, status):
    command = (
        *MAESH,
        "explain",
        client,
        "products.acl",
        "GET",
        "/products/1",
        "--manifests",
        ROOT / "examples/acl",
        "--acl",
    )
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done.stdout + done.stderr
