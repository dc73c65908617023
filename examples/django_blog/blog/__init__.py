"""A blog with comments, which are filtered for spam in the background."""
