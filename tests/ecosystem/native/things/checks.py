import os

from django.core import checks


@checks.register
def complain(app_configs, **_):
    return [checks.Error("this project is not in order", id="things.E001")] if "SITE_COMPLAINS" in os.environ else []
