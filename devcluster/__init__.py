"""A real one-node Kubernetes for the demo and the end-to-end tests, on a Linux machine without Docker.

Every cluster lives in namespaces of its own (mounts, processes, network), whose first process is ours. So one signal
takes away everything that ran in it, its mounts and its network go with it, and nothing else on the machine is
touched. What this does not do: several nodes, upgrades, upkeep over reboots, or isolation good enough for strangers.
"""
