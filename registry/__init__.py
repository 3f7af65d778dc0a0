"""Model versions in MLflow: log, alias, fetch, roll back."""
