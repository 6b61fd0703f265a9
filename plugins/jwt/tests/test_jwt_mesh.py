"""A limit for each user of a real mesh, whom a token names."""

import pytest

from .token_keys import build_key_set, sign

pytestmark = pytest.mark.integration


def test_each_user_has_a_limit_and_those_without_a_token_have_one_together(start_mesh, tmp_path):
    keys = tmp_path / "keys.json"
    keys.write_text(build_key_set("ES256"))
    annotations = {"ratelimit-average": "1", "ratelimit-period": "1h", "ratelimit-source": "claim:sub"}
    mesh = start_mesh("--jwt", "--set", f"jwt.keys={keys}", annotations=annotations)
    tokens = [f"Bearer {sign({'sub': name}).decode()}" for name in ("anna", "anna", "berta")]
    fields = [{"Authorization": token} for token in tokens] + [{}, {"Authorization": "Bearer x.y.z"}]
    assert [mesh.get(headers=each).status for each in fields] == [200, 429, 200, 200, 429]


def test_the_source_needs_the_plugin(start_mesh):
    mesh = start_mesh(annotations={"ratelimit-average": "1", "ratelimit-source": "claim:sub"})
    (error,) = mesh.describe_service()["errors"]
    assert "'claim:sub' has a source of plugin jwt, which is off; --jwt switches it on" in error
