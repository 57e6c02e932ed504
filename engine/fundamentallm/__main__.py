"""The program `fundamentallm`, which is also `python -m fundamentallm`. Its modules are imported when it runs."""

import sys


def main() -> int:
    """Run one command. Ctrl+C ends it quietly, also while the modules are still imported."""
    try:
        from fundamentallm.cli import main as run

        return run()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
