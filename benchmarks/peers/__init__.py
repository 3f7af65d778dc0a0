"""What runs in `.venv-peers`: other libraries, asked the same questions. Imports nothing of Attune."""
