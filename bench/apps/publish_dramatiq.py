"""Publish one message with real dramatiq and print its id.

Argument: the actor's name. Standard input: its arguments as JSON.
"""

from __future__ import annotations

import json
import sys

import dramatiq_tasks

message = getattr(dramatiq_tasks, sys.argv[1]).send(*json.load(sys.stdin))
print(json.dumps({"id": message.message_id, "reply_to": ""}))
