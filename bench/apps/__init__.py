"""What the workers under test load; each file here is run by the interpreter of the worker it is for."""
