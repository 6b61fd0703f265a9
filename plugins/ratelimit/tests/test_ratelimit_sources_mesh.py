"""Limits in a real mesh: accounts of clients, several limits, and what responses say."""

import re

import pytest

from maesh_testing import build_pod

pytestmark = pytest.mark.integration

LIMITS = """
account: 2/1h source=account
login: 1/1h source=ip,path:/login
"""
PODS = [build_pod("web-1", "127.0.1.1", "web"), build_pod("web-2", "127.0.1.2", "web")]


def read_left(response):
    """Read how many tokens a response says are left, by limit."""
    return {name: int(left) for name, left in re.findall(r'"(\w+)";r=(\d+);t=\d+', response.headers["RateLimit"])}


def test_pods_of_one_account_share_a_limit_and_responses_say_what_is_left(start_mesh):
    annotations = {"ratelimit-limits": LIMITS, "ratelimit-headers": "true"}
    mesh = start_mesh("--set", "ratelimit.accounts=true", annotations=annotations, objects=PODS)
    first = mesh.get("/login", client="127.0.1.1")
    assert (first.status, first.headers["RateLimit-Policy"]) == (200, '"account";q=2;w=3600, "login";q=1;w=3600')
    assert read_left(first) == {"account": 1, "login": 0}
    assert mesh.get("/login", client="127.0.1.1").status == 429
    second = mesh.get("/", client="127.0.1.2")
    assert (second.status, read_left(second)) == (200, {"account": 0})
    assert mesh.get("/", client="127.0.1.1").status == 429
    assert mesh.get("/", client="127.0.1.3").status == 200


def test_the_account_needs_the_setting(start_mesh):
    mesh = start_mesh(annotations={"ratelimit-average": "1", "ratelimit-source": "account"})
    (error,) = mesh.describe_service()["errors"]
    assert "needs the accounts of clients: --set ratelimit.accounts=true" in error
