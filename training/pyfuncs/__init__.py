"""How `mlflow.pyfunc.load_model` answers from a version's folder (models-from-code): one file per kind of model."""
