"""The cluster's DNS, made to answer for the mesh's zones and put back again: Corefiles, kube-dns, what is installed."""
