"""What runs in a job's pods beside the worker: readies a pod's files, and feeds the queue."""
