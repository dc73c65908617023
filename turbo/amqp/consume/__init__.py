"""The worker's consuming connection: sessions, consumers, delivery tags, acknowledgements."""
