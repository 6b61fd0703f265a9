"""Corefiles are read as CoreDNS reads them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.controller.dns.corefile_parsing import parse_corefile, read_address
from maesh_core.errors import ClusterDnsError


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", []),
        ("# nothing\n", []),
        ("\ufeff.:53 {\n}\n", [(".:53",)]),
        ("a b, c {\n}", [("a", "b", "c")]),
        ("a,\nb {\n}", [("a", "b")]),
        ("a,\nb\n{\n}", [("a", "b")]),
        (". {\r\n errors\r\n}\r\n", [(".",)]),
        (". {\n} maesh {\n}", [(".",), ("maesh",)]),
        ("import *.server\n. {\n}\nimport other", [(".",)]),
        ('". x" {\n}', [(". x",)]),
        ("(snippet) {\n errors\n}\n. {\n import snippet\n}", [("(snippet)",), (".",)]),
        (". {\n log # {\n # {\n}", [(".",)]),
        ('. {\n answer "{ } {" "\\"{"\n}', [(".",)]),
        (". {\n template {\n  answer {{.Name}} {$HOME} {1}\n }\n}", [(".",)]),
        ("zone#rest {\n}", [("zone",)]),
        (".\u00a0{\u2003}", [(".",)]),
    ],
)
def test_server_blocks_are_found_with_their_keys(text, keys):
    corefile = parse_corefile(text)
    assert [block.keys for block in corefile.blocks] == keys


def test_imports_at_the_top_are_known_by_their_patterns():
    text = "import a/*.b c\n. {\n import inner\n}\nimport d # e\n# import f\n"
    assert parse_corefile(text).patterns == ("a/*.b", "c", "d")


def test_the_lines_of_a_block_are_its_directives():
    (block,) = parse_corefile('. {\n a b\n c d {\n  e\n }\n "f\ng" h\n}\n').blocks
    assert block.lines == (("a", "b"), ("c", "d", "{"), ("e",), ("}",), ("f\ng", "h"))
    assert block.words == ("a", "b", "c", "d", "{", "e", "}", "f\ng", "h")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (".:53 {\n errors\n", "line 1: a brace is never closed"),
        (".:53 {\n cache {\n}\n", "line 1: a brace is never closed"),
        (".:53 {\n}\n}\n", "line 3: a brace closes what was never opened"),
        ("\n{\n}\n", "line 2: a brace opens a block that has no name"),
        (".:53\nerrors\nforward . 1.1.1.1\n", "line 1: '.:53' is a server without braces"),
        ("maesh", "line 1: 'maesh' is a server without braces"),
        ('. {\n}\na "b\n', "line 3: a quote is never closed"),
        ('. {\n log "\\"\n}\n', "line 2: a quote is never closed"),
        ('. {\n log "{"\n}\n', "line 1: a brace is never closed"),  # CoreDNS does not tell a quoted brace either
    ],
)
def test_what_must_not_be_added_to_is_refused(text, error):
    with pytest.raises(ClusterDnsError, match="line") as caught:
        parse_corefile(text)
    assert str(caught.value) == error


@pytest.mark.parametrize(
    ("key", "zone", "port"),
    [
        (".", "", ""),
        (".:53", "", "53"),
        ("Maesh.:1053", "maesh", "1053"),
        ("dns://maesh", "maesh", ""),
        ("tls://maesh:853", "maesh", "853"),
        ("maesh:port", "maesh:port", ""),
        ("10.0.0.0/24", "10.0.0.0/24", ""),
    ],
)
def test_a_key_is_zone_and_port(key, zone, port):
    assert read_address(key) == (zone, port)


PIECES = ["{", "}", " ", "\n", "\r\n", "\r", "\t", '"', "\\", "#", ",", ".", "maesh:53", "import", "(x)", "\u2028", "é"]


@given(st.lists(st.sampled_from(PIECES)).map("".join) | st.text())
def test_any_text_is_read_or_refused(text):
    try:
        found: Any = parse_corefile(text).blocks
    except ClusterDnsError as error:
        found = error
    if isinstance(found, ClusterDnsError):
        assert "\n" not in str(found)
    else:
        assert {text[block.end - 1] for block in found} <= {"}", "\r", '"'}
