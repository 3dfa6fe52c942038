"""Files that a job reads and writes, behind one small door."""
