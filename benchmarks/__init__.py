"""Measured against peers in the same run, through the public functions of the rooms only."""
