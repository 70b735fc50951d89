"""The routes: a profile, the notes of a user, and tokens."""

from django.urls import path
from notebook.views import NoteList, ProfileDetail
from rest_framework_simplejwt.views import TokenObtainPairView

urlpatterns = [
    path("api/token/", TokenObtainPairView.as_view()),
    path("api/profiles/<uuid:profile_id>/", ProfileDetail.as_view()),
    path("api/notes/", NoteList.as_view()),
]
