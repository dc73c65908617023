import os

from turbo import Turbo

app = Turbo("silent", broker=os.environ["PROJ_BROKER"], set_as_current=False)
app.conf.task_queue_max_priority = 10
