"""Rotations and revocations: the steps, the service that takes them, and the pages that ask for them."""
