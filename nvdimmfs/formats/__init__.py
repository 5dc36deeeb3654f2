"""On-media formats: bytes to frozen values and back, without any I/O."""
