from django.conf import settings
from django.db import models


class Note(models.Model):
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.CASCADE, related_name="notes")
    title = models.CharField(max_length=200)
    body = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)


class Profile(models.Model):
    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    bio = models.TextField(blank=True)
    birth_date = models.DateField(null=True, blank=True)
    website = models.URLField(blank=True)
    friends = models.ManyToManyField(settings.AUTH_USER_MODEL, blank=True, related_name="friends_profiles")
    favorite_note = models.ForeignKey(Note, null=True, blank=True, on_delete=models.SET_NULL, related_name="favorited_by")
    is_active = models.BooleanField(default=True)

    def __str__(self):
        return self.user.username
