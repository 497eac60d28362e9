"""The command line: deletions from files, for whoever runs them from cron."""

from sk_unlearn.commands._outcome import Exit
from sk_unlearn.commands._run import main

__all__ = ["Exit", "main"]
