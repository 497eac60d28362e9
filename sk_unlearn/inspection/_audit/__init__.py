"""The audit of one deletion: measures, a verdict in words, a report."""
