"""Runs a whole job on one machine."""
