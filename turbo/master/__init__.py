"""What runs in the master process, on uvloop. Holds no user code and never blocks."""
