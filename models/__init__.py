"""Algorithms: fit, score, save, load. They know arrays and frames, not tables, databases or MLflow."""
