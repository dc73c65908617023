"""The blog's models."""

from django.db import models
from django.urls import reverse
from django.utils.translation import gettext_lazy as _


class Entry(models.Model):
    """A post."""

    slug = models.SlugField(_("slug"), unique=True)
    title = models.CharField(_("title"), max_length=100)

    class Meta:
        """Names of the model."""

        verbose_name = _("entry")
        verbose_name_plural = _("entries")

    def get_absolute_url(self) -> str:
        """Return the URL of its page."""
        return reverse("entry", args=[self.slug])


class Comment(models.Model):
    """A reader's comment on a post, shown unless it was found to be spam."""

    entry = models.ForeignKey(Entry, models.CASCADE, related_name="comments")
    name = models.CharField(_("name"), max_length=64)
    email_address = models.EmailField(_("email address"))
    homepage = models.URLField(_("home page"), blank=True)
    comment = models.TextField(_("comment"))
    pub_date = models.DateTimeField(_("published date"), editable=False, auto_now_add=True)
    is_spam = models.BooleanField(_("spam?"), default=False, editable=False)

    class Meta:
        """Names of the model."""

        verbose_name = _("comment")
        verbose_name_plural = _("comments")
