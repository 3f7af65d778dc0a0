"""The simulated shop and its truth."""
