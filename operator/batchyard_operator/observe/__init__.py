"""What a turn sees: watch caches, the queue, Events looked up; put together as one frozen Observation."""
