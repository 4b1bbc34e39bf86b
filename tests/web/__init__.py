"""Tests of the pages, through Flask's client, on real servers."""
