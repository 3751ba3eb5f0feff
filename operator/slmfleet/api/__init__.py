"""The four kinds as pydantic models, their conditions, and the CRD generator.

A model here says what the API server admits, and nothing more: cross-field rules are CEL (x-kubernetes-validations),
never pydantic validators, so that what the server admits the operator accepts.
"""
