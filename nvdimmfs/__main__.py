"""`python -m nvdimmfs`."""

import sys

from nvdimmfs.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
