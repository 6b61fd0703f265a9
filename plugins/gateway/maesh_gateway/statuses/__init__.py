"""From what was found about routes to their statuses."""
