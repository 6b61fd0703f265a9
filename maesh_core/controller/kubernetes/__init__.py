"""The connection to a Kubernetes API server: credentials, requests, lists and watches as bytes. No policy."""
