"""Where the pages are."""

from blog import views
from django.urls import path

urlpatterns = [
    path("<slug:slug>/", views.show, name="entry"),
    path("<slug:slug>/comment/", views.add_comment, name="add-comment"),
]
