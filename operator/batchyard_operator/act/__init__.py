"""Everything the operator changes: server-side apply, deletions, status, events, and the queue's streams."""
