"""SavedModel folders: which layouts are accepted, and what the server is told to load."""
