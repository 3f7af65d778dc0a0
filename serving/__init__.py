"""The HTTP service and its decisions."""
