"""What the blog keeps."""

from django.db import models
from django.urls import reverse
from django.utils.translation import gettext_lazy as _


class Entry(models.Model):
    """A post."""

    slug = models.SlugField(_("slug"), unique=True)
    title = models.CharField(_("title"), max_length=100)

    class Meta:
        """Its names."""

        verbose_name = _("entry")
        verbose_name_plural = _("entries")

    def get_absolute_url(self) -> str:
        """Where it is read."""
        return reverse("entry", args=[self.slug])


class Comment(models.Model):
    """What a reader says about a post. It is shown until it is found to be spam."""

    entry = models.ForeignKey(Entry, models.CASCADE, related_name="comments")
    name = models.CharField(_("name"), max_length=64)
    email_address = models.EmailField(_("email address"))
    homepage = models.URLField(_("home page"), blank=True)
    comment = models.TextField(_("comment"))
    pub_date = models.DateTimeField(_("published date"), editable=False, auto_now_add=True)
    is_spam = models.BooleanField(_("spam?"), default=False, editable=False)

    class Meta:
        """Its names."""

        verbose_name = _("comment")
        verbose_name_plural = _("comments")
