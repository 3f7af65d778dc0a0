"""The data room: the contract, sources, checks, the workspace, the live state, vocabularies and interactions."""
