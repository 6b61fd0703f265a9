"""Where the cluster's objects come from: sources turn manifests into events. Must not import later stages."""
