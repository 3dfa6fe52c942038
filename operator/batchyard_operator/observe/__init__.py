"""What a turn may look at: Kubernetes objects from watch caches, and a job's queue. Reads only."""
