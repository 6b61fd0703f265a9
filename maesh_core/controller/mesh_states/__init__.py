"""States of a mesh that are built once, without proxies: what `maesh diff` and `maesh simulate` ask questions about."""
