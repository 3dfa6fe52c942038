"""The worker: leases batches, runs them in supervised handler processes, settles them."""
