"""The paths of the controller's API that other modules than its handlers name. Values only."""

from typing import Final

PULL_PATH: Final = "/api/configuration/current"
REPORTS_PATH: Final = "/api/status/nodes"
"""The proxies that pull from this controller; other controllers ask for it."""
READINESS_PATH: Final = "/api/status/readiness"
LIVENESS_PATH: Final = "/api/status/liveness"
PROBE_PATHS: Final = frozenset({READINESS_PATH, LIVENESS_PATH})
"""The kubelet's probes have no token, and do not verify certificates."""
