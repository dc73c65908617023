"""What runs in the master process, on uvloop. Knows no app and never blocks; code of an app runs on a thread beside."""
