"""Counts the requests to the controller's API, and the pulls by their result.

Takes a path as the API names it, so that labels are bounded; returns metric families at a scrape.
"""

from collections import Counter
from http import HTTPStatus

from maesh_core.model.metrics import MetricFamily

CLIENT_LEFT = 499
"""The code for a client that disconnected before the answer, as in the metrics of a proxy."""
OTHER_PATH = "other"
PAGE_PATH = "page"
"""All pages of plugins: their paths may change with each version."""

_RESULTS = {HTTPStatus.NOT_MODIFIED: "unchanged", CLIENT_LEFT: "left"}


class RequestCounts:
    """The counts of one API."""

    __slots__ = ("_pulls", "_requests")

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, str]] = Counter()
        self._pulls: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<RequestCounts {self._requests.total()} requests>"

    def count(self, path: str, code: int) -> None:
        """Count an answered request."""
        self._requests[path, str(code)] += 1

    def count_pull(self, code: int, tag: str = "") -> None:
        """Count a pull; the entity tag of an answer with 200 says whether it is a delta."""
        answered = "delta" if ";since=" in tag else "full"
        result = answered if code == HTTPStatus.OK else _RESULTS.get(code, "refused")
        self._pulls[result] += 1

    def collect(self, held_pulls: int) -> list[MetricFamily]:
        """Return the families."""
        return [
            MetricFamily(
                name="maesh_controller_api_requests_total",
                type="counter",
                help="Requests to the API.",
                labels=("path", "code"),
                samples=tuple(sorted(self._requests.items())),
            ),
            MetricFamily(
                name="maesh_controller_pulls_total",
                type="counter",
                help="Pulls by result.",
                labels=("result",),
                samples=tuple(((result,), count) for result, count in sorted(self._pulls.items())),
            ),
            MetricFamily(
                name="maesh_controller_held_pulls",
                type="gauge",
                help="Pulls that wait for a revision.",
                samples=(((), held_pulls),),
            ),
        ]
