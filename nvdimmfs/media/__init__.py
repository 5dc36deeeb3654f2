"""The hardware: sparse bytes that persist, in memory or in a file."""
