"""Benchmarks: each measures Millrace and a rival design in the same run. `python -m bench` lists them."""
