from django.db import models

from things import checks

__all__ = ["Thing", "checks"]


class Thing(models.Model):
    name = models.CharField(max_length=20)


class Article(models.Model):
    title = models.CharField()
    body = models.TextField()
