"""The client API: what runs in web processes as well as in children."""
