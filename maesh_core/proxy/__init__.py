"""The proxy: pulls its configuration from a controller and routes traffic. Imports nothing of the controller."""
