"""The parts of `ApiServer`, a Kubernetes API server for tests. Import nothing from here but through api_server.py."""
