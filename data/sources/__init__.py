"""Importers: other people's files become the contract's tables, streaming."""
