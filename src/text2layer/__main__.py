"""The `text2layer` program; `python -m text2layer` is the same."""

import sys


def main() -> None:
    """Run the command line. Ctrl-C ends it with 130 even while the commands are being loaded."""
    try:
        from text2layer.cli import main as run

        run()
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
