"""The test suite of turbo; each folder is one kind of tests (see CONTRIBUTING.md)."""
