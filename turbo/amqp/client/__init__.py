"""The connections of an ordinary process to the broker.

They are a blocking publisher, rpc replies, and remote control.
"""
