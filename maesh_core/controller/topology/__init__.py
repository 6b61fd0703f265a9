"""Builds the topology from the cluster's objects. Pure: reads through a View, returns values of model/topology.

Must not import another stage, nor do I/O. A service's node depends only on what it read.
"""
