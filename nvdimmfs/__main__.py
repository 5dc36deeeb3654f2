"""The program: `nvdimmfs`, and `python -m nvdimmfs`.

It imports nothing before Ctrl-C is prepared for.
"""

import sys

# Python ends by the signal afterwards, as whoever waits for this process expects.
sys.excepthook = lambda kind, error, frames: (
    None if issubclass(kind, KeyboardInterrupt) else sys.__excepthook__(kind, error, frames)
)


def main() -> int:
    """Run the command line of this process and return the exit status."""
    from nvdimmfs.cli.main import main as command_line

    return command_line()


if __name__ == "__main__":
    sys.exit(main())
