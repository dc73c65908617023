"""For programs written with Django: the class of their tasks, and a backend for the tasks that Django itself has."""
