"""Parses text into typed resources: YAML and JSON, decoded and validated as by an API server. No I/O."""
