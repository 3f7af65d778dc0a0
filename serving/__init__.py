"""The BentoML service: it reads the workspace's state, checked tables and fetched versions, and answers over HTTP."""
