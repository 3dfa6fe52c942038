"""Batchyard: offline inference over any number of items, on Kubernetes or on one machine."""
