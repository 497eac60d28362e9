"""``python -m sk_unlearn``: deletions from the command line."""

import sys

from sk_unlearn.commands import main

if __name__ == "__main__":
    sys.exit(main())
