"""What an app does for a framework that its program is written with, without being told."""
