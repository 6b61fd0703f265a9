"""Compares histograms of durations with an access log and with what a script has timed itself.

Takes the text of a proxy's metrics, the durations of a log's records, and spans of a script; returns differences. The
log gives each duration to the nanosecond, so the buckets of most histograms are known exactly. The script's spans do
not depend on the proxy: a duration is at least the delay that a server adds on purpose, and at most the time until the
script has read the whole answer.
"""

import json
import re
import time
from collections import defaultdict
from typing import NamedTuple

SAMPLE = re.compile(r"^(maesh_\w+_seconds)_(bucket|sum|count)\{(.*)\} (\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')
COMPARED = re.compile(r"maesh_(service|branch|rule|server|edge|entrypoint)_")
ROUNDING_S = 1e-9
"""A log rounds a duration to nanoseconds."""


class Span(NamedTuple):
    """Bounds of a duration: it takes at least `least_s`, and lies between two times of the monotonic clock.

    `ended` is None if the script cannot know the end: it lies before now.
    """

    least_s: float
    began: float
    ended: float | None

    def find_most_s(self):
        """Return the upper bound in seconds."""
        return (time.monotonic() if self.ended is None else self.ended) - self.began


class Histogram:
    """Cumulative counts by upper bound, the sum and the count of one histogram."""

    def __init__(self):
        self.buckets: dict[float, int] = {}
        self.sum = 0.0
        self.count = 0

    def find_misorder(self):
        """Yield what no histogram can be: buckets that decrease, or a sum that its buckets do not allow."""
        counts = [self.buckets[bound] for bound in sorted(self.buckets)]
        if counts != sorted(counts) or counts[-1] != self.count:
            yield f"buckets {counts} of {self.count}"
        least, below, lower = 0.0, 0, 0.0
        for bound in sorted(self.buckets):
            least += lower * (self.buckets[bound] - below)
            below, lower = self.buckets[bound], bound
        if self.sum < least:
            yield f"a sum of {self.sum}, but its buckets need {least}"


def read_histograms(text):
    """Read the histograms of requests from a page of metrics, by name and labels."""
    found = defaultdict(Histogram)
    for name, part, labels, value in SAMPLE.findall(text):
        if COMPARED.match(name):
            given = dict(LABEL.findall(labels))
            bound = given.pop("le", "")
            histogram = found[name, frozenset(given.items())]
            if part == "bucket":
                histogram.buckets[float(bound)] = int(float(value))
            elif part == "sum":
                histogram.sum = float(value)
            else:
                histogram.count = int(float(value))
    return {key: histogram for key, histogram in found.items() if histogram.count}


def collect_durations(lines):
    """Collect the durations in seconds of a log in JSON, by the name and labels of the histogram that counts them.

    A record has the upstream's duration of the last attempt only. So the histograms of services with retries are not
    among them.
    """
    found, retried = defaultdict(list), set()

    def add(noun, nanoseconds, **labels):
        found[f"maesh_{noun}_duration_seconds", frozenset(labels.items())].append(nanoseconds / 1e9)

    for record in map(json.loads, lines):
        if record["Kind"] not in ("http", "tunnel"):
            continue
        service, destination = record["RouterName"], record["ServiceName"]
        add("service_request", record["Duration"], service=service)
        add("edge_request", record["Duration"], client=record["ClientHost"], service=service)
        if destination != service:
            add("branch_request", record["Duration"], service=service, destination=destination)
        if record["RetryAttempts"]:
            retried.add(("maesh_service_upstream_duration_seconds", frozenset({("service", service)})))
        if record["OriginDuration"] is not None:
            add("service_upstream", record["OriginDuration"], service=service)
    return {key: durations for key, durations in found.items() if key not in retried}


def compare_with_log(histogram, durations_s):
    """Yield the differences of a histogram and of the durations that a log has, each of which it must have counted."""
    rounding_s = ROUNDING_S * (len(durations_s) + 1)
    if abs(histogram.sum - sum(durations_s)) > rounding_s + 1e-9 * histogram.sum:
        yield f"a sum of {histogram.sum}, but the log says {sum(durations_s)}"
    for bound, count in sorted(histogram.buckets.items()):
        least = sum(each <= bound - ROUNDING_S for each in durations_s)
        most = sum(each <= bound + ROUNDING_S for each in durations_s)
        if not least <= count <= most:
            yield f"{count} up to {bound} s, but the log says {least}"


def compare_with_spans(histogram, spans):
    """Yield the differences of a histogram and of the spans of a script, one for each duration."""
    longest = [each.find_most_s() for each in spans]
    if not sum(each.least_s for each in spans) <= histogram.sum <= sum(longest):
        yield f"a sum of {histogram.sum}, not within {sum(each.least_s for each in spans)} and {sum(longest)}"
    if histogram.count != len(spans):
        yield f"a count of {histogram.count}, not {len(spans)}"
    for bound, count in sorted(histogram.buckets.items()):
        least, most = sum(each <= bound for each in longest), sum(each.least_s <= bound for each in spans)
        if not least <= count <= most:
            yield f"{count} up to {bound} s, not within {least} and {most}"


def compare_histograms(histograms, logged, spans):
    """Describe all differences; `logged` has the durations of those histograms that a log knows completely."""
    for key in histograms.keys() | spans.keys():
        if key not in histograms or key not in spans:
            yield f"{key}: {'not wanted' if key in histograms else 'missing'}"
            continue
        histogram = histograms[key]
        differences = [*histogram.find_misorder(), *compare_with_spans(histogram, spans[key])]
        if key in logged:
            differences += compare_with_log(histogram, logged[key])
        yield from (f"{key}: {each}" for each in differences)
