"""The command line: one module a command, found in the table of `main`."""
