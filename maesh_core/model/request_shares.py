"""Shares of requests, as a filter of the Gateway API has them: in percent, or as a fraction."""

from maesh_core.errors import ConfigurationError


def read_request_share(percent: float | None, fraction: tuple[int | None, int] | None) -> float:
    """Return the share, from 0 to 1; without both, all requests. Raises ConfigurationError.

    `fraction` is a numerator, which None says is missing, and a denominator of at least 1.
    """
    if percent is not None and fraction is not None:
        raise ConfigurationError("percent and fraction cannot be together")
    if percent is not None:
        return percent / 100
    if fraction is None:
        return 1.0
    numerator, denominator = fraction
    if numerator is None or numerator > denominator:
        raise ConfigurationError("fraction: the numerator is missing or above the denominator")
    return numerator / denominator
