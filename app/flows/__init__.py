"""Verbs: they own the transactions."""
