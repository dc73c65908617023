"""What becomes of a delivery until a child has ended it: received, held, leased, dispatched, revoked."""
