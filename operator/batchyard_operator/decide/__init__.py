"""From one frozen Observation to one Decision: pure rules, no clock and no I/O."""
