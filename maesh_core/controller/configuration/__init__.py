"""From the topology to what proxies must do, and to the documents they pull. Pure: values in, values out.

Must not import another stage, nor do I/O. A service's configuration is a function of its node alone.
"""
