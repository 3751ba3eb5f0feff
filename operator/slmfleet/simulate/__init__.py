"""A fleet on a trace, without a cluster: the real planner and the real choice of a server over a model of an engine."""
