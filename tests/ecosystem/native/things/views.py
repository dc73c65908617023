"""The views of Celery's Tasks guide, in its order; suffixes that are not in the guide make their names unique."""

import functools

from django.db import transaction
from django.http import HttpResponseRedirect

from things.models import Article
from things.tasks import expand_abbreviations


@transaction.atomic
def create_article_63(request):
    article = Article.objects.create()
    expand_abbreviations.delay(article.pk)
    return HttpResponseRedirect("/articles/")


@transaction.atomic
def create_article_64(request):
    article = Article.objects.create()
    expand_abbreviations.delay_on_commit(article.pk)
    return HttpResponseRedirect("/articles/")


@transaction.atomic
def create_article_65(request):
    article = Article.objects.create()
    transaction.on_commit(functools.partial(expand_abbreviations.delay, article.pk))
    return HttpResponseRedirect("/articles/")
