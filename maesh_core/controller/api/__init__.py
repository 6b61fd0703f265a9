"""The controller's HTTP API: configuration for proxies, status and topology for people."""
