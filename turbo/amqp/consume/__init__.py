"""The worker's consuming connection: sessions, consumers, tags, acks."""
