"""Millrace without its doors: everything that knows neither Flask nor Dramatiq."""
