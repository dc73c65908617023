"""Wire protocol: converts bytes to values and back.

Every process may import it. Pure: nothing here opens a connection, waits or logs.
"""
