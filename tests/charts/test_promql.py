"""The reader of PromQL: which names in an expression are metrics, and which are labels."""

import pytest


@pytest.mark.parametrize(
    ("expression", "selected"),
    [
        ("up", {"up": set()}),
        ('up{job="a", instance=~"b{2}"}', {"up": {"job", "instance"}}),
        ("sum by (job) (rate(a_total[5m])) / sum(b_total) by (job)", {"a_total": set(), "b_total": set()}),
        ("sum without (le) (a) > 0.5 * b offset 1h30m", {"a": set(), "b": set()}),
        ("a AND ON (x) b UNLESS c or vector(0)", {"a": set(), "b": set(), "c": set()}),
        ("a * on (x) group_left (y) b", {"a": set(), "b": set()}),
        ("a * on (x) group_left b", {"a": set(), "b": set()}),
        ("topk by (x) (1, a:b:c) == bool 1e3", {"a:b:c": set()}),
        ('{__name__=~"a|b", x!~"y"}', {"a": {"x"}, "b": {"x"}}),
        ('label_replace(a, "x", "$1", "y", "(.*)")', {"a": set()}),
        ("max_over_time(a[5m:1m] @ 1609746000) # b", {"a": set()}),
        ("histogram_quantile(0.99, sum(rate(a_bucket[5m])) by (le)) > Inf", {"a_bucket": set()}),
        ("count_values('x', a) ^ -0x1F % time()", {"a": set()}),
    ],
)
def test_metrics_are_found_and_nothing_else(expression, selected, read_usage):
    assert read_usage(expression).selected == selected


@pytest.mark.parametrize(
    ("expression", "listed", "made"),
    [
        ("sum by (a, b) (x)", {"a", "b"}, set()),
        ("x * ignoring (a) group_left (b) y", {"a", "b"}, set()),
        ("sum(x) without (c,)", {"c"}, set()),
        ('label_replace(max by (a) (x), "new", "$1", "a", "(.*)")', {"a"}, {"new"}),
        ('label_join(x, "new", "-", "a", "b")', set(), {"new"}),
    ],
)
def test_labels_of_lists_and_new_labels_are_found(expression, listed, made, read_usage):
    usage = read_usage(expression)
    assert (usage.listed, usage.made) == (listed, made)


def test_what_is_no_promql_is_an_error(read_usage):
    with pytest.raises(ValueError, match=r"no token at '\$service'"):
        read_usage("x > $service")
