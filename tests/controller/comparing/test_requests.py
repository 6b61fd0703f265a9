"""The examples of a port contain requests that each rule matches, and requests that it does not."""

from maesh_core.controller.comparing.requests import (
    OTHER_PATH,
    REQUESTS_LIMIT,
    ExampleRequest,
    build_examples,
)
from maesh_core.model.matches import HeaderMatch, HttpMatch, QueryMatch


def test_without_rules_there_are_two_paths_and_one_method():
    found = build_examples([])
    assert found.requests == (ExampleRequest("GET", "/"), ExampleRequest("GET", OTHER_PATH))
    assert found.is_complete


def test_methods_that_rules_name_and_one_that_none_names_occur():
    found = build_examples([HttpMatch(paths=("/a",), methods=("GET", "REPORT"))])
    assert {each.method for each in found.requests} == {"GET", "POST", "REPORT"}
    assert {each.path for each in found.requests} >= {"/", "/a", "/a/1", "/a1"}


def test_headers_and_queries_occur_alone_and_together():
    matches = [
        HttpMatch(headers=(HeaderMatch(name="x-group", value="beta"),)),
        HttpMatch(headers=(HeaderMatch(name="x-user", pattern="[0-9]+"),), queries=(QueryMatch(name="v", value="2"),)),
    ]
    found = build_examples(matches).requests
    assert ExampleRequest("GET", "/", (("x-group", "beta"),)) in found
    assert ExampleRequest("GET", "/?v=2", (("x-group", "beta"), ("x-user", "1"))) in found


def test_paths_that_a_client_cannot_send_do_not_occur():
    matches = [HttpMatch(exact_path=path) for path in ("/a b/", "/x/../c", "no-slash", "/a?b/", "/a#b/", "/\xe9/")]
    assert {each.path for each in build_examples(matches).requests} == {"/", OTHER_PATH}


def test_a_limit_is_reported():
    found = build_examples([HttpMatch(paths=(f"/{n}",), methods=("GET", "PUT")) for n in range(500)])
    assert len(found.requests) == REQUESTS_LIMIT or not found.is_complete
    assert not found.is_complete


def test_changed_matches_are_examined_first():
    matches = [HttpMatch(exact_path=f"/{n}") for n in range(500)]
    found = build_examples(matches, changed=[HttpMatch(exact_path="/changed-and-long")])
    assert ExampleRequest("GET", "/changed-and-long") in found.requests[:4]
    assert not found.is_complete


def test_a_pattern_without_samples_is_reported():
    assert not build_examples([HttpMatch(paths=(r"/\pL",))]).is_complete


def test_a_request_is_rendered_as_people_write_it():
    assert str(ExampleRequest("PUT", "/a", (("x", "1"),))) == "PUT /a x: 1"
