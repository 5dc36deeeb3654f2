"""The firmware of DIMMs: health, passphrases and updates, and the command families by which the kernel reaches them."""
