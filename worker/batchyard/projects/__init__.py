"""Brings the handler's files to where the handler runs: inline, from a ConfigMap, from a bucket."""
