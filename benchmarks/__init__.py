"""Runnable tables: ``python -m benchmarks.NAME``."""
