"""A delivery until a child has ended it: held, leased, dispatched, revoked."""
