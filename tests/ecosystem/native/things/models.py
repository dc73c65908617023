from django.db import models

from things import checks

__all__ = ["Thing", "checks"]


class Thing(models.Model):
    name = models.CharField(max_length=20)
