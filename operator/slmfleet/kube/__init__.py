"""The only importer of the Kubernetes client: read, apply server-side, write status, record events, hold the lease."""
