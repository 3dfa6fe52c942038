"""What a user writes and what the parts say to each other: BatchJob models, names, messages, errors."""
