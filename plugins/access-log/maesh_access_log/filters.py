"""Which records are logged: the settings `status`, `min-duration`, `errors-only` and `sample` as one function.

A record that any filter selects is logged. Of the others, the fraction `sample` is logged.
"""

import random
from collections.abc import Callable

from maesh_access_log import AccessLogSettings
from maesh_access_log.statuses import parse_statuses
from maesh_core.plugin import TrafficRecord

Filter = Callable[[TrafficRecord], bool]

ERROR_STATUS = 400
"""The first status of an error; 499 is the status of a client that left."""


def is_error(record: TrafficRecord) -> bool:
    """Whether a record is one of an error: by its status, its gRPC status, or because the mesh itself ended it."""
    return bool(record.status >= ERROR_STATUS or record.reason or record.grpc_status)


def build_filter(settings: AccessLogSettings, draw: Callable[[], float] = random.random) -> Filter | None:
    """Build the function that decides whether a record is logged; None if all are. `draw` returns numbers below 1."""
    filters: list[Filter] = []
    statuses, min_duration_s = parse_statuses(settings.status), settings.min_duration
    if statuses:
        filters.append(lambda record: record.status in statuses)
    if min_duration_s > 0:
        filters.append(lambda record: bool(record.duration_s >= min_duration_s))
    if settings.errors_only:
        filters.append(is_error)
    sample = settings.sample if settings.sample is not None else float(not filters)
    if sample >= 1:
        return None
    return lambda record: any(each(record) for each in filters) or draw() < sample
