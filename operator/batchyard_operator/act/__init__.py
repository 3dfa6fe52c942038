"""Everything the operator changes: children, statuses, Events. The only package that talks to the API server."""
