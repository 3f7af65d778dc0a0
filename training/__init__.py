"""Jobs: snapshots become fitted, compared and promoted versions."""
