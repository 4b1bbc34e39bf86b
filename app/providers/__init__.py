"""Strangers that deliver: one file each."""
