"""The controller's own requests: to the admin ports of proxies, and to other controllers."""
