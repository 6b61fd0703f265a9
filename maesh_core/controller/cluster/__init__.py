"""What a controller does in a cluster: it joins, elects a leader, and the leader writes shadow services and DNS."""
