"""The views, as the tutorials of Django REST framework write them."""

from rest_framework import generics, serializers
from rest_framework.pagination import CursorPagination

from .models import Note, Profile


class ProfileSerializer(serializers.ModelSerializer):
    display_name = serializers.CharField(source="user.username", read_only=True)

    class Meta:
        model = Profile
        fields = ["profile_id", "display_name", "bio", "birth_date", "website", "is_active", "favorite_note", "create_time", "update_time"]


class NoteSerializer(serializers.ModelSerializer):
    class Meta:
        model = Note
        fields = ["note_id", "title", "body", "visibility", "create_time", "update_time"]


class ProfileDetail(generics.RetrieveAPIView):
    queryset = Profile.objects.select_related("user")
    serializer_class = ProfileSerializer
    lookup_field = "profile_id"


class Newest(CursorPagination):
    ordering = ("-create_time", "-note_id")
    page_size = 20


class NoteList(generics.ListCreateAPIView):
    serializer_class = NoteSerializer
    pagination_class = Newest

    def get_queryset(self):
        return Note.objects.filter(owner=self.request.user)

    def perform_create(self, serializer):
        serializer.save(owner=self.request.user)
