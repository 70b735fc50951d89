"""Makes 2,000 odd users with their profiles and notes, dumps them into the file that is named, and tells the counts as JSON."""

import json
import sys

import django
from django.core.management import call_command

django.setup()

from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User
from origin.profile.models import Note, Profile

call_command("migrate", verbosity=0)

USERS = 2000
SCRIPTS = ["alice", "ångström", "мария", "δημήτρης", "علي", "דנה", "太郎", "ひろし", "지민", "สมชาย", "नीरज", "alice.b+c-d_e"]
HASH = make_password("Pa$$wörd", hasher="pbkdf2_sha256")


def username(n):
    # Every tenth username is the e-mail address of the user before.
    return f"user{n - 1}@example.com" if n % 10 == 1 else f"{SCRIPTS[n % len(SCRIPTS)]}{n}"


def email(n):
    if n % 7 == 0:
        return "same@example.com"
    if n % 7 == 1:
        return f"Дмитрий{n}@почта.рф"
    if n % 7 == 2:
        return ""
    return f"user{n}@example.com"


def password(n):
    return make_password(None) if n % 3 == 0 else HASH


User.objects.bulk_create(
    User(username=username(n), email=email(n), password=password(n), first_name="Ä" * (n % 151), last_name="李" * (n % 151))
    for n in range(USERS)
)
users = list(User.objects.order_by("pk"))
bio = lambda n: "ж" * 2001 if n % 4 == 0 else "line\nline\t☃" * (n % 300)
Profile.objects.bulk_create(
    Profile(user=user, bio=bio(n), website="https://example.com/" + "x" * 180 if n % 5 == 0 else "")
    for n, user in enumerate(users)
)
title = lambda n: ["", "   ", "x" * 200, "a\nb", "Tagebuch ☃"][n % 5]
body = lambda n: "я" * 20000 if n % 100 == 0 else "x" * (n % 50)
Note.objects.bulk_create(Note(owner=user, title=title(n), body=body(n)) for n, user in enumerate(users))
call_command("dumpdata", output=sys.argv[1], verbosity=0)
json.dump(
    {
        "keys": {user.username: str(user.pk) for user in users},
        "counts": {
            "users": User.objects.count(),
            "users.email": User.objects.exclude(email="").count(),
            "profiles": Profile.objects.count(),
            "profiles.bio": sum(1 for n in range(USERS) if bio(n)),
            "notes": Note.objects.count(),
        },
    },
    sys.stdout,
)
