"""`musiclm` and `python -m musiclm`: the command line, which Ctrl-C also ends in a line while it is being imported."""

import sys


def main() -> None:
    """Imports the command line and runs it (`musiclm.cli.main`)."""
    try:
        from musiclm.cli import main as run
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
