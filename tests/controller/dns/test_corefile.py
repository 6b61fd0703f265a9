"""Blocks go into a Corefile and come out again without a trace."""

import re
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from maesh_core.controller.dns.corefile import (
    MARKS,
    SIGNATURE,
    ZONES,
    BlockBuilder,
    find_port,
    find_spans,
    insert_blocks,
    read_exact_rules,
    remove_blocks,
)
from maesh_core.controller.dns.corefile_parsing import parse_corefile
from maesh_core.errors import ClusterDnsError
from maesh_core.model.keys import ObjectKey

DATA = Path(__file__).resolve().parents[2] / "data" / "dns"
CLEAN = sorted(path.name for path in (DATA / "corefiles").iterdir())
PATCHED = sorted(path.name for path in (DATA / "patched").iterdir())
BUILDER = BlockBuilder(mesh_namespace="maesh", cluster_domain="cluster.local")
BLOCKS = {zone: BUILDER.build(zone, exact={}) for zone in ZONES}
LONG = ObjectKey("shop", "a" * 60)

GOLDEN = r"""#### Begin Traefik Mesh Block
# Written by maesh prepare, taken out by maesh cleanup.
traefik.mesh:1053 {
    errors
    rewrite stop {
        name regex ^cart\.a\.traefik\.mesh\.$ maesh-0.my-mesh.svc.corp.example
        answer name ^maesh-0\.my-mesh\.svc\.corp\.example\.$ cart.a.traefik.mesh
    }
    rewrite stop {
        name regex ^cart\.b\.traefik\.mesh\.$ maesh-1.my-mesh.svc.corp.example
        answer name ^maesh-1\.my-mesh\.svc\.corp\.example\.$ cart.b.traefik.mesh
    }
    rewrite continue {
        name regex ^([a-zA-Z0-9-_]+)\.([a-zA-Z0-9-_]+)\.traefik\.mesh\.$ my-mesh-{1}-6d61657368-{2}.my-mesh.svc.corp.example
        answer name ^my-mesh-([a-zA-Z0-9-_]+)-6d61657368-([a-zA-Z0-9-_]+)\.my-mesh\.svc\.corp\.example\.$ {1}.{2}.traefik.mesh
    }
    kubernetes corp.example in-addr.arpa ip6.arpa {
        pods insecure
        upstream
        fallthrough in-addr.arpa ip6.arpa
    }
    forward . /etc/resolv.conf
    cache 30
    loop
    reload
    loadbalance
}
#### End Traefik Mesh Block"""  # noqa: E501


def test_a_block_reads_as_it_should():
    builder = BlockBuilder(mesh_namespace="my-mesh", cluster_domain="corp.example", has_upstream=True)
    exact = {ObjectKey("b", "cart"): "maesh-1", ObjectKey("a", "cart"): "maesh-0"}
    assert builder.build("traefik.mesh", exact=exact, port="1053") == GOLDEN


def rewrite(block, name):
    """Rewrite a question as CoreDNS does, and the answer's name back; None where no rule fits."""
    for question, target, answer, back in re.findall(r"name regex (\S+) (\S+)\n *answer name (\S+) (\S+)", block):
        match = re.search(question, name)
        if match:
            shadow = target.replace("{1}", match[1] if match.re.groups else "")
            shadow = shadow.replace("{2}", match[2] if match.re.groups else "") + "."
            returned = re.search(answer, shadow)
            groups = [returned[0], *returned.groups()]
            for number, group in enumerate(groups):
                back = back.replace(f"{{{number}}}", group)
            return shadow, f"{back}."
    return None


@pytest.mark.parametrize("zone", ZONES)
def test_a_name_is_rewritten_to_its_shadow_service_and_back(zone):
    block = BUILDER.build(zone, exact={LONG: "maesh-cut-0123"})
    expected = "maesh-web-2-6d61657368-my-shop.maesh.svc.cluster.local."
    assert rewrite(block, f"web-2.my-shop.{zone}.") == (expected, f"web-2.my-shop.{zone}.")
    assert rewrite(block, f"{'a' * 60}.shop.{zone}.") == (
        "maesh-cut-0123.maesh.svc.cluster.local.",
        f"{'a' * 60}.shop.{zone}.",
    )


@pytest.mark.parametrize(
    "name", ["web.maesh.", ".shop.maesh.", "web..maesh.", "a.web.shop.maesh.", "web.shop.maesh.x."]
)
def test_other_names_are_left_alone(name):
    assert rewrite(BLOCKS["maesh"], name) is None


@pytest.mark.parametrize(
    ("namespace", "domain"),
    [("a b", "cluster.local"), ("maesh", "x {"), ("maesh", ""), ("maesh", "a..b"), ("", "x"), ("Maesh", "x")],
)
def test_what_is_no_name_never_gets_into_a_corefile(namespace, domain):
    with pytest.raises(ClusterDnsError):
        BlockBuilder(mesh_namespace=namespace, cluster_domain=domain)


@pytest.mark.parametrize(("key", "shadow"), [(ObjectKey("a", "b c"), "x"), (ObjectKey("a", "b"), "x\n}")])
def test_exact_rules_are_for_names_of_services_alone(key, shadow):
    with pytest.raises(ClusterDnsError):
        BUILDER.build("maesh", exact={key: shadow})


@pytest.mark.parametrize("name", CLEAN)
def test_a_real_corefile_comes_back_byte_for_byte(name, read_corefile):
    text = read_corefile(f"corefiles/{name}")
    patched = insert_blocks(text, BLOCKS)
    assert insert_blocks(patched, BLOCKS) == patched
    assert [block.zones for block in parse_corefile(patched).blocks[-2:]] == [("maesh",), ("traefik.mesh",)]
    assert remove_blocks(patched) == text


@pytest.mark.parametrize("name", PATCHED)
def test_what_older_versions_wrote_is_replaced_and_taken_out(name, read_corefile):
    clean = read_corefile(f"corefiles/{name.partition('-by-')[0]}")
    text = read_corefile(f"patched/{name}")
    assert remove_blocks(text) == clean
    assert insert_blocks(text, BLOCKS) == insert_blocks(clean, BLOCKS)


def test_a_block_is_replaced_where_it_stands(read_corefile):
    old = {zone: BlockBuilder(mesh_namespace="old", cluster_domain="x").build(zone, exact={}) for zone in ZONES}
    text = insert_blocks(read_corefile("corefiles/kubeadm"), old) + "example.org {\n}\n"
    assert (
        insert_blocks(text, BLOCKS) == insert_blocks(read_corefile("corefiles/kubeadm"), BLOCKS) + "example.org {\n}\n"
    )


def test_old_blocks_between_others_leave_lines_whole(read_corefile):
    text = read_corefile("patched/kubeadm-by-1.2").replace("\n\nmaesh:53", "\nmaesh:53") + "example.org {\n}\n"
    assert remove_blocks(text) == read_corefile("corefiles/kubeadm") + "example.org {\n}\n"


def test_a_block_whose_marks_and_comments_somebody_dropped_is_known(read_corefile):
    text = insert_blocks(read_corefile("corefiles/kubeadm"), BLOCKS)
    bare = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))
    assert {span.zone for span in find_spans(bare)} == set(ZONES)
    assert remove_blocks(bare).rstrip() == read_corefile("corefiles/kubeadm").rstrip()


def test_two_pairs_of_marks_become_one():
    text = f"{BLOCKS['maesh']}\n{BLOCKS['maesh']}\n"
    assert insert_blocks(text, BLOCKS) == insert_blocks("", BLOCKS)


def test_blocks_with_crlf_are_taken_out_too(read_corefile):
    text = insert_blocks(read_corefile("corefiles/kubeadm"), BLOCKS).replace("\n", "\r\n")
    assert remove_blocks(text) == read_corefile("corefiles/kubeadm").replace("\n", "\r\n")


BEGIN, END = MARKS["maesh"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (f"{BEGIN}\n", f"the mark '{BEGIN}' has no '{END}' after it"),
        (f"{END}\n", f"line 1: the mark '{END}' is not where it should be"),
        (f"{BEGIN}\n{BEGIN}\n{END}\n", f"line 2: the mark '{BEGIN}' is not where it should be"),
        (f". {{\n}} {BEGIN}\n{END}\n", f"line 2: the mark '{BEGIN}' is not where it should be"),
        (f"{BEGIN}\n. {{\n}}\n{END}\n", "there is more than that block"),
        (f"{BEGIN}\nmaesh {{\n}}\nmaesh:54 {{\n}}\n{END}\n", "there is more than that block"),
        (f"{BEGIN}\nmaesh other {{\n}}\n{END}\n", "there is more than that block"),
        (f"{BEGIN}\nimport x\n{END}\n", "there is more than that block"),
        (f". {{\n{BEGIN}\n{END}\n}}\n", "there is more than that block"),
        (f". {{\n{BEGIN}\n}}\n{END}\n", "there is more than that block"),
    ],
)
def test_broken_marks_are_refused_both_ways(text, error):
    for change in (remove_blocks, lambda text: insert_blocks(text, BLOCKS)):
        with pytest.raises(ClusterDnsError, match=re.escape(error)):
            change(text)


@pytest.mark.parametrize("key", ["maesh", "maesh:53", "Maesh.", "dns://maesh", "tls://maesh:853", "x traefik.mesh"])
def test_a_foreign_server_of_a_zone_is_refused_but_does_not_hinder_a_removal(key):
    text = f"{key} {{\n    whoami\n}}\n"
    with pytest.raises(ClusterDnsError, match=r"another server already serves the zone '.*'"):
        insert_blocks(text, BLOCKS)
    assert remove_blocks(text) == text


def test_a_mark_in_quotes_is_none():
    text = f'. {{\n log "\n{BEGIN}\n"\n}}\n'
    assert remove_blocks(insert_blocks(text, BLOCKS)) == text


def test_exact_rules_are_read_again():
    exact = {LONG: "maesh-cut-0", ObjectKey("x-1", "b"): "maesh-cut-1"}
    text = insert_blocks(". {\n}\n", {zone: BUILDER.build(zone, exact=exact) for zone in ZONES})
    assert read_exact_rules(text) == exact
    assert read_exact_rules(insert_blocks(text, BLOCKS)) == {}


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("", ""),
        (".:1053 {\n}\n", "1053"),
        (":1053 {\n}\n", "1053"),
        ("example.org:54 {\n}\n. {\n}\n", ""),
        ("tls://.:853 {\n}\ndns://.:5353 {\n}\n", "5353"),
        (".:{$PORT} {\n}\n", "{$PORT}"),
        (".:{%PORT%} {\n}\n", "{%PORT%}"),
        ("(snippet) {\n}\ncluster.local:1053 {\n}\nexample.org:54 {\n}\n", "1053"),
        ("maesh:54 {\n}\ncluster.local {\n}\n", ""),
    ],
)
def test_the_port_is_that_of_the_root_zone_or_else_of_the_first_server(text, port):
    assert find_port(text) == port


def list_listeners(text, default_port):
    """List the ports by zone as CoreDNS opens them: its flag counts where a plain DNS key names none."""
    found = {}
    for block in parse_corefile(text).blocks:
        for key in block.keys:
            address = key.removeprefix("dns://")
            zone, has_port, port = address.rpartition(":")
            zone = zone if has_port else address
            found.setdefault(zone.rstrip("."), set()).add((port if has_port else default_port).replace("{$PORT}", "99"))
    return found


@given(
    st.sampled_from([".", ".:53", ".:1053", "dns://.", "dns://.:5353", ":54", ".:{$PORT}"]),
    st.sampled_from(["53", "5353"]),
    st.booleans(),
)
def test_the_meshs_zones_are_served_where_the_root_zone_is(key, default_port, has_newline):
    text = f"other.example:9 {{\n}}\n{key} {{\n    errors\n}}" + "\n" * has_newline
    blocks = {zone: BUILDER.build(zone, exact={}, port=find_port(text)) for zone in ZONES}
    patched = insert_blocks(text, blocks)
    listeners = list_listeners(patched, default_port)
    assert listeners["maesh"] == listeners["traefik.mesh"] == listeners[""]
    assert find_port(patched) == find_port(text)
    assert remove_blocks(patched) == text


def test_a_block_without_a_port_is_known_and_replaced():
    old = insert_blocks(". {\n}\n", BLOCKS)
    fresh = {zone: BUILDER.build(zone, exact={}, port="") for zone in ZONES}
    assert "\nmaesh {\n" in insert_blocks(old, fresh)
    assert remove_blocks(insert_blocks(old, fresh)) == ". {\n}\n"


SERVERS = st.sampled_from(
    [
        ".:53 {\n errors\n}",
        "example.org {\n}",
        "import *.server",
        "# maesh",
        "(x) {\n log\n}",
        "",
        "  ",
        "\t# {",
        "a b {\r\n}",
    ]
)
NEWLINES = st.sampled_from(["\n", "\r\n", "\n\n", "\n \n"])
LAST = st.sampled_from(["", "\n", "\r\n", "\n\n", " ", "\r", "\n# end", "\ufeff"])
COREFILES = st.builds(
    lambda parts, last: "".join(server + newline for server, newline in parts) + ". {\n}" + last,
    st.lists(st.tuples(SERVERS, NEWLINES), max_size=5),
    LAST,
)
OURS = st.sampled_from(
    [
        *(
            f"\n{(DATA / 'patched' / name).read_text().partition(chr(10) * 2)[2]}"
            for name in PATCHED
            if "kubeadm" in name
        ),
        *(f"{block}\n" for block in BLOCKS.values()),
        *(f"{mark}\n" for marks in MARKS.values() for mark in marks),
        f"{SIGNATURE}\n",
    ]
)


@given(COREFILES)
def test_put_in_and_taken_out_is_as_before(text):
    assume("\ufeff" not in text)
    patched = insert_blocks(text, BLOCKS)
    assert insert_blocks(patched, BLOCKS) == patched
    assert remove_blocks(patched) == text


@given(st.lists(COREFILES | OURS, max_size=6).map("".join))
def test_whatever_stands_there_ends_with_one_of_each_or_is_refused(text):
    try:
        patched = insert_blocks(text, BLOCKS)
    except ClusterDnsError:
        return
    assert sorted(span.zone for span in find_spans(patched)) == sorted(ZONES)
    assert insert_blocks(patched, BLOCKS) == patched
    assert find_spans(remove_blocks(patched)) == []


@given(st.text(alphabet=st.sampled_from(list('{}#"\\ \n\r.am,'))) | st.text())
def test_any_text_comes_back_as_it_was_or_is_refused(text):
    try:
        patched = insert_blocks(text, BLOCKS)
    except ClusterDnsError:
        return
    assert remove_blocks(patched) == text
