"""The entry point of `nvdimmfs` and `python -m nvdimmfs`.

It sets up the handling of Ctrl-C before it imports anything else.
"""

import sys

# After an uncaught KeyboardInterrupt Python exits by the signal, as the parent process expects.
sys.excepthook = lambda kind, error, frames: (
    None if issubclass(kind, KeyboardInterrupt) else sys.__excepthook__(kind, error, frames)
)


def main() -> int:
    """Run the command line of this process and return the exit status."""
    from nvdimmfs.warm.client import carry_out

    carry_out(sys.argv[1:])
    from nvdimmfs.cli.main import main as command_line

    return command_line()


if __name__ == "__main__":
    sys.exit(main())
