"""Detects the cluster's DNS, configures it for the mesh's zones, and restores it: Corefiles, stub domains."""
