"""The operator: watches BatchJobs, runs their children, and writes what became of them into their status."""
