"""Messages between processes: the only thing the gateway, the jobs and the operator know of each other.

Pydantic only (and RE2, in `expressions`): no I/O, no clock, no Kubernetes. A field is added here, never renamed or
given a new meaning.
"""
