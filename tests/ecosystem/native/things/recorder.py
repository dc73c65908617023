import json
import os


def record(what, *details):
    out = os.open(os.environ["RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(out, (json.dumps([what, os.getpid(), *details]) + "\n").encode())
    os.close(out)
