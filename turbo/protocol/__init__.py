"""Wire protocol: bytes to values and back. Pure; every process may import it; nothing here opens, waits or logs."""
