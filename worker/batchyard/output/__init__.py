"""A job's results: parts, errors, manifest."""
