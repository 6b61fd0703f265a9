import pytest

from maesh_core.plain_http.browser_marks import is_from_browser


@pytest.mark.parametrize(
    "field",
    [
        (b"accept-language", b"en"),
        (b"origin", b"null"),
        (b"referer", b"http://a/"),
        (b"sec-fetch-site", b"none"),
        (b"sec-fetch-mode", b"cors"),
        (b"user-agent", b" Mozilla/5.0 (X11)"),
        (b"accept", b"text/HTML,application/xml"),
    ],
)
def test_one_field_of_a_browser_is_enough(field):
    assert is_from_browser([(b"host", b"a"), field])


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [(b"user-agent", b"curl/8.5.0"), (b"accept", b"*/*")],
        [(b"user-agent", b"maesh"), (b"accept", b"application/json"), (b"accept-encoding", b"identity")],
        [(b"user-agent", b"Prometheus/2.42.0"), (b"accept", b"application/openmetrics-text;version=1.0.0")],
        [(b"user-agent", b"kube-probe/1.31"), (b"accept", b"*/*")],
    ],
)
def test_commands_probes_and_proxies_are_no_browsers(fields):
    assert not is_from_browser(fields)
