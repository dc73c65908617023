"""The task that the worker runs."""

from django.conf import settings
from django.contrib.sites.models import Site
from django.core.exceptions import ImproperlyConfigured

from blog.akismet import Akismet, Unreachable
from blog.models import Comment
from turbo import shared_task
from turbo.utils.log import get_task_logger

logger = get_task_logger(__name__)


@shared_task(autoretry_for=(Unreachable,), retry_backoff=True, max_retries=8)
def spam_filter(comment_id: int, remote_addr: str | None = None) -> bool:
    """Ask Akismet about a comment, and hide it if it is spam. Retry with backoff if Akismet does not answer."""
    logger.info("Running spam filter for comment %s", comment_id)
    comment = Comment.objects.get(pk=comment_id)
    site = f"http://{Site.objects.get_current().domain}"
    akismet = Akismet(settings.AKISMET_URL, settings.AKISMET_KEY, site)
    if not akismet.verify_key():
        raise ImproperlyConfigured("Invalid AKISMET_KEY")
    is_spam = akismet.comment_check(
        user_ip=remote_addr,
        comment_content=comment.comment,
        comment_author=comment.name,
        comment_author_email=comment.email_address,
    )
    if is_spam:
        comment.is_spam = True
        comment.save(update_fields=["is_spam"])
    return is_spam
