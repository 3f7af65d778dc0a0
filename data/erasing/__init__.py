"""Erasing a person: from the state, the files and the memory of the service, and keeping them out."""

from data.erasing.person import REASON, Receipt, begin, erase, finish, keep_out, pending

__all__ = ["REASON", "Receipt", "begin", "erase", "finish", "keep_out", "pending"]
