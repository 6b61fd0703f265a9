"""Client connections: accepting, reading, pacing, responding and closing."""
