"""Stub domains are put in front of others, and taken out without a trace."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.controller.dns.corefile import ZONES
from maesh_core.controller.dns.kube_dns import add_zones, parse_stub_domains, remove_zones
from maesh_core.errors import ClusterDnsError

OURS = '"maesh": ["10.0.0.9"], "traefik.mesh": ["10.0.0.9"]'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", f"{{{OURS}}}"),
        (" {\n}\n", f" {{{OURS}\n}}\n"),
        ('{"acme.local": ["1.2.3.4"]}', f'{{{OURS}, "acme.local": ["1.2.3.4"]}}'),
        ('{\n  "acme.local": ["1.2.3.4"]\n}\n', f'{{{OURS}, \n  "acme.local": ["1.2.3.4"]\n}}\n'),
    ],
)
def test_zones_come_and_go(text, expected):
    assert add_zones(text, ZONES, ["10.0.0.9"]) == expected
    assert add_zones(expected, ZONES, ["10.0.0.9"]) == expected
    assert remove_zones(expected, ZONES) == text


def test_what_older_versions_wrote_is_replaced_and_taken_out():
    old = '{"acme.local":["1.2.3.4"],"maesh":["10.0.0.1"]}'
    assert parse_stub_domains(add_zones(old, ZONES, ["10.0.0.9"])) == {
        "maesh": ["10.0.0.9"],
        "traefik.mesh": ["10.0.0.9"],
        "acme.local": ["1.2.3.4"],
    }
    assert remove_zones(old, ZONES) == '{"acme.local": ["1.2.3.4"]}'


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"a": "1.2.3.4"}', '{"a": [1]}', "null", "{} {}", "stub: yes", "[" * 5000, "\ud800"]
)
def test_what_is_no_json_of_that_shape_is_refused(text):
    for change in (lambda: add_zones(text, ZONES, ["10.0.0.9"]), lambda: remove_zones(text, ZONES)):
        with pytest.raises(ClusterDnsError, match="stubDomains is not a JSON object"):
            change()


DOMAINS = st.dictionaries(st.text(max_size=8), st.lists(st.text(max_size=8), max_size=2), max_size=4)


ADDRESSES = st.sampled_from([["fd00::9"], ["10.0.0.9", "10.0.0.10:53"]])
CHOSEN = st.sampled_from([ZONES, ZONES[:1], ZONES[1:], ()])


@given(DOMAINS, st.sampled_from([None, 1, "\t"]), st.booleans(), CHOSEN, ADDRESSES)
def test_others_are_kept_byte_for_byte(domains, indent, is_ascii, zones, addresses):
    text = json.dumps(domains, indent=indent, ensure_ascii=is_ascii)
    patched = add_zones(text, zones, addresses)
    assert parse_stub_domains(patched) == domains | dict.fromkeys(zones, addresses)
    assert add_zones(patched, zones, addresses) == patched
    assert remove_zones(patched, ZONES) == text
