"""Nouns: each is a .py that means it and a .sql that moves it."""
