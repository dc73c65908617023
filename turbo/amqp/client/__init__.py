"""The connections of an ordinary process: a blocking publisher, rpc replies, remote control."""
