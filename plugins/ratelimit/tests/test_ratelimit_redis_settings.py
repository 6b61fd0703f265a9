"""Texts in, addresses out; passwords from files."""

import pytest
from maesh_ratelimit.redis_settings import PASSWORD_LIMIT_BYTES, RedisAddress, parse_redis_url, read_password


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("redis://redis.example", ("redis.example", 6379, 0, "", False)),
        ("redis://redis.example:7000/3", ("redis.example", 7000, 3, "", False)),
        ("rediss://a%40b@[2001:db8::1]:6380/", ("2001:db8::1", 6380, 0, "a@b", True)),
    ],
)
def test_a_url_names_host_port_database_user_and_tls(text, address):
    host, port, database, user, has_tls = address
    assert parse_redis_url(text) == RedisAddress(host=host, port=port, database=database, user=user, has_tls=has_tls)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "redis.example:6379",
        "http://redis.example",
        "redis://",
        "redis://redis.example:0",
        "redis://redis.example:99999",
        "redis://redis.example:port",
        "redis://[::1",
        "redis://redis.example/x",
        "redis://redis.example/-1",
        "redis://redis.example/123456",
        "redis://redis.example?ssl_cert_reqs=none",
        "redis://redis.example#x",
    ],
)
def test_any_other_text_is_refused(text):
    with pytest.raises(ValueError, match=r"^(is not a URL|has a path)"):
        parse_redis_url(text)


def test_a_password_in_a_url_is_refused_and_not_repeated():
    with pytest.raises(ValueError, match="redis-password-file") as caught:
        parse_redis_url("redis://app:hunter2@redis.example")
    assert "hunter2" not in str(caught.value)


def test_a_password_is_a_line_of_a_file(tmp_path):
    file = tmp_path / "password"
    file.write_bytes(b"caf\xc3\xa9 au lait\r\n")
    assert read_password(str(file)) == "café au lait"
    assert read_password("") is None


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff", b"x" * (PASSWORD_LIMIT_BYTES + 1)])
def test_a_file_without_a_usable_password_is_an_error(tmp_path, content):
    file = tmp_path / "password"
    file.write_bytes(content)
    with pytest.raises(ValueError, match="password is"):
        read_password(str(file))
