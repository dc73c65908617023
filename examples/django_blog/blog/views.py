"""The web process: saves a comment and sends the task that checks it, so the reader does not wait."""

from django import forms
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render

from blog.models import Comment, Entry
from blog.tasks import spam_filter


class CommentForm(forms.ModelForm):
    """The form for a comment."""

    # The default of a later Django; this version warns without it.
    homepage = forms.URLField(required=False, assume_scheme="https")

    class Meta:
        """All fields but the entry, which the URL gives."""

        model = Comment
        exclude = ("entry",)


def show(request: HttpRequest, slug: str) -> HttpResponse:
    """Show a post and its comments."""
    entry = get_object_or_404(Entry, slug=slug)
    comments = entry.comments.filter(is_spam=False).order_by("pub_date")
    return render(request, "blog/entry.html", {"entry": entry, "comments": comments})


@transaction.atomic
def add_comment(request: HttpRequest, slug: str) -> HttpResponse:
    """Show the form for a comment, and save what it sends."""
    entry = get_object_or_404(Entry, slug=slug)
    form = CommentForm(request.POST or None, instance=Comment(entry=entry))
    if request.method == "POST" and form.is_valid():
        comment = form.save()
        # Sends the task when the transaction is committed. Before that a worker would not find the comment.
        spam_filter.delay_on_commit(comment_id=comment.pk, remote_addr=request.META.get("REMOTE_ADDR"))
        return HttpResponseRedirect(entry.get_absolute_url())
    return render(request, "blog/create.html", {"entry": entry, "form": form})
