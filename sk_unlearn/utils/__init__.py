"""Help for those who extend the package."""
