"""Creates the tables, a user and their notes, and prints the id of the profile and an access token."""

import os
import sys
from datetime import timedelta

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from notebook.models import Note, Profile  # noqa: E402
from rest_framework_simplejwt.tokens import AccessToken  # noqa: E402

call_command("migrate", "auth", verbosity=0)
call_command("migrate", run_syncdb=True, verbosity=0)
user = User.objects.create_user("alice", "alice@example.com", "seven blue cafes of tin")
profile = Profile.objects.create(user=user)
notes = [Note(owner=user, title=f"note {number}", body="x" * 200) for number in range(int(sys.argv[1]))]
Note.objects.bulk_create(notes)
token = AccessToken.for_user(user)
token.set_exp(lifetime=timedelta(days=1))
print(profile.profile_id, token)
