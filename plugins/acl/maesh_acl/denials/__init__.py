"""What was denied, or would be without audit mode: recorded in workers, gathered by the controller, and reported."""
