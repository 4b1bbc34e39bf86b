"""The `millrace` command: everything that operators do."""
