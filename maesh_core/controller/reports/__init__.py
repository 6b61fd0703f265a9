"""Collects errors and notices of the cluster's objects from every stage; logs and publishes each once."""
