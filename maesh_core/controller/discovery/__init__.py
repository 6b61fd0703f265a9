"""The sources of the cluster's objects: they turn files and API responses into events. Must not import later stages."""
