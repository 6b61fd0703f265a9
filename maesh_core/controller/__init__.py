"""The controller: combines discovery, resources, topology and configuration, and serves the result to proxies.

It is the only package that imports those stages, and never imports maesh_core.proxy.
"""
