"""What the pytest plugin does, without pytest: `pytest_plugin` imports it when a test uses a fixture."""
