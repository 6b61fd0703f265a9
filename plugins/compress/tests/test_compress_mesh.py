"""Compressed responses of a real mesh, read by what clients use."""

import gzip

import pytest

PAGE = b"<p>hello</p>" * 20_000


@pytest.fixture
def mesh(start_mesh):
    started = start_mesh("--compress", annotations={"compress": "gzip"})
    started.upstreams[0].body = PAGE
    started.upstreams[0].headers = {"Content-Type": "text/html; charset=utf-8", "ETag": '"1"'}
    return started


def test_a_large_response_is_compressed_for_clients_that_accept_it(mesh):
    answer = mesh.get("/", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.headers["ETag"] == 'W/"1"'
    assert gzip.decompress(answer.body) == PAGE
    assert len(answer.body) < len(PAGE) / 50
    plain = mesh.get("/")
    assert (plain.body, plain.headers["ETag"], plain.headers["Vary"]) == (PAGE, '"1"', "Accept-Encoding")
    metrics = mesh.read_metrics()
    assert 'maesh_compress_responses_total{coding="gzip"' in metrics or 'coding="gzip"} 1' in metrics


def test_small_responses_and_heads_are_not(mesh):
    mesh.upstreams[0].body = b"<p>"
    answer = mesh.get("/", headers={"Accept-Encoding": "gzip"})
    assert (answer.body, answer.headers.get("Content-Encoding")) == (b"<p>", None)
