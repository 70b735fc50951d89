"""Profiles and notes, with the columns of the services."""

import uuid

from django.conf import settings
from django.db import models


class Profile(models.Model):
    profile_id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    bio = models.CharField(max_length=2000, blank=True)
    birth_date = models.DateField(null=True)
    website = models.URLField(blank=True)
    is_active = models.BooleanField(default=True)
    favorite_note = models.ForeignKey("Note", null=True, on_delete=models.SET_NULL, related_name="+")
    create_time = models.DateTimeField(auto_now_add=True)
    update_time = models.DateTimeField(auto_now=True)


class Note(models.Model):
    note_id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    title = models.CharField(max_length=200)
    body = models.TextField(blank=True)
    visibility = models.SmallIntegerField(default=1)
    create_time = models.DateTimeField(auto_now_add=True)
    update_time = models.DateTimeField(auto_now=True)

    class Meta:
        indexes = [models.Index(fields=["owner", "-create_time", "-note_id"], name="notes_by_time")]
