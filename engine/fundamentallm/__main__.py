"""`python -m fundamentallm` is `fundamentallm`."""

import sys

from fundamentallm.cli import main

if __name__ == "__main__":
    sys.exit(main())
