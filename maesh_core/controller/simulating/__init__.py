"""Tests of policy: scenarios of requests with the results that are expected, for `maesh simulate`."""
