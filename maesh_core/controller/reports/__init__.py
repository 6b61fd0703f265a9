"""What is wrong with the cluster's objects, collected from every stage, logged and published once."""
