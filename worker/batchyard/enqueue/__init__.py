"""Turns a job's input into batches, in order, resumably."""
