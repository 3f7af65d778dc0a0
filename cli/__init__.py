"""The front door: a file per verb, thin, heavy imports inside the functions."""
