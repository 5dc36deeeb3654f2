"""What differs between releases of the kernel, as data."""
