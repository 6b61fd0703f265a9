"""The controller: joins discovery, resources, topology and configuration, and serves the result to proxies.

The only package that imports those stages. It never imports maesh_core.proxy.
"""
