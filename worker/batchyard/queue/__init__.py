"""The queue port and its engines."""
