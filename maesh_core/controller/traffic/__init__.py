"""Measured traffic, for `/api/traffic`: collects what all proxies have counted, and reports it by service."""
