"""From the cluster's objects to who calls whom. Pure: reads through a View, gives values of model/topology.

Must not import another stage, nor do I/O; each service's node depends on nothing but what it read.
"""
