"""Platforms: they announce persistent memory and register the buses for it."""
