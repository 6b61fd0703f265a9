"""Text becomes typed resources: YAML and JSON, decoded and validated as an API server does it. No I/O."""
