"""From the topology to the proxies' configuration, and to the documents that they pull. Pure.

Must not import another stage, nor do I/O. A service's configuration is a function of its node alone.
"""
