"""Publish one message with real dramatiq and print its id.

Arguments: the actor's name, its arguments as JSON.
"""

from __future__ import annotations

import json
import sys

import dramatiq_tasks

message = getattr(dramatiq_tasks, sys.argv[1]).send(*json.loads(sys.argv[2]))
print(json.dumps({"id": message.message_id, "reply_to": ""}))
