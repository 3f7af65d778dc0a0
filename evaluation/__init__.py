"""Measures and reports: arrays and frames in, documented results with intervals out."""
