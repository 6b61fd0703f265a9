"""Who may reach what: TrafficTargets become grants in the controller, are checked, and are explained."""
