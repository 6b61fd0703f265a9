"""The authority: its certificate and key, the stores that keep them, and what it signs."""
