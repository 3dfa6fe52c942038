"""Predictions over TF Serving's gRPC API: the client and a server that runs SavedModels."""
