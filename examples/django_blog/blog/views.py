"""The web process's side: it saves a comment and leaves the looking to a worker, so that the reader need not wait."""

from django import forms
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render

from blog.models import Comment, Entry
from blog.tasks import spam_filter


class CommentForm(forms.ModelForm):
    """What a reader fills in."""

    # Django's next default; without it, this version warns.
    homepage = forms.URLField(required=False, assume_scheme="https")

    class Meta:
        """Everything but what the page knows itself."""

        model = Comment
        exclude = ("entry",)


def show(request: HttpRequest, slug: str) -> HttpResponse:
    """A post and its comments."""
    entry = get_object_or_404(Entry, slug=slug)
    comments = entry.comments.filter(is_spam=False).order_by("pub_date")
    return render(request, "blog/entry.html", {"entry": entry, "comments": comments})


@transaction.atomic
def add_comment(request: HttpRequest, slug: str) -> HttpResponse:
    """The form for a comment, and where it is sent."""
    entry = get_object_or_404(Entry, slug=slug)
    form = CommentForm(request.POST or None, instance=Comment(entry=entry))
    if request.method == "POST" and form.is_valid():
        comment = form.save()
        # Sent when the transaction is committed: a worker that is faster would find no comment.
        spam_filter.delay_on_commit(comment_id=comment.pk, remote_addr=request.META.get("REMOTE_ADDR"))
        return HttpResponseRedirect(entry.get_absolute_url())
    return render(request, "blog/create.html", {"entry": entry, "form": form})
