"""The connection to a Kubernetes API server: who we are to it, requests, lists and watches as bytes. No policy."""
