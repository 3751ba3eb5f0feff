"""The only importer of kopf: one module a kind, one loop an object, observe -> plan -> apply."""
