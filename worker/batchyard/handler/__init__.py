"""The user's handler: found, checked against the contract, constructed."""
