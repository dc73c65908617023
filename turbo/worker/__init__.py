"""A worker of turbo's own apps: the wiring of its processes, and the app's own code that its master runs.

Nothing is imported here: a program that names its own class of requests imports ``turbo.native.request`` from web
processes too, and must not load a worker with it.
"""
