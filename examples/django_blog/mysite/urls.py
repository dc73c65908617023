"""The URLs of the project."""

from blog import views
from django.urls import path

urlpatterns = [
    path("<slug:slug>/", views.show, name="entry"),
    path("<slug:slug>/comment/", views.add_comment, name="add-comment"),
]
