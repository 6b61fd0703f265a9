"""The proxy: pulls its configuration from a controller and carries traffic by it. Imports nothing of the controller."""
