"""Makes the tables and the rows, dumps them into the file that is named, and tells what they are as JSON."""

import json
import sys
from datetime import date, datetime, timedelta, timezone

import django
from django.core.management import call_command

django.setup()

import jwt
from django.conf import settings
from django.contrib.auth.models import Group, Permission, User
from django.contrib.auth.hashers import make_password
from origin.profile.models import Note, Profile
from rest_framework_simplejwt.token_blacklist.models import BlacklistedToken, OutstandingToken
from rest_framework_simplejwt.tokens import RefreshToken

call_command("migrate", verbosity=0)

PASSWORD = "Pa$$wörd of %s"
JOINED = datetime(2019, 5, 4, 3, 2, 1, 654321, tzinfo=timezone.utc)
users = {}


def user(name, hasher=None, password=None, email="", **fields):
    if hasher:
        password = make_password(PASSWORD % name, hasher=hasher)
    users[name] = User.objects.create(
        username=name, password=password or make_password(None), email=email, date_joined=JOINED, **fields
    )
    return users[name]


root = user("root", "pbkdf2_sha256", email="root@example.com", is_superuser=True, is_staff=True)
alice = user("alice", "pbkdf2_sha256", email="alice@example.com", first_name="Alice", last_name="Liddell", last_login=JOINED + timedelta(days=7))
bob = user("bob", "pbkdf2_sha1")
carol = user("carol", "argon2")
dave = user("dave", "bcrypt_sha256")
erin = user("erin", "bcrypt")
frank = user("frank", "scrypt")
grace = user("grace")
heidi = user("heidi", "pbkdf2_sha256")
ivan = user("ivan", "pbkdf2_sha256", email="Alice@Example.com")
judy = user("judy", "md5", email="no address")
kim = user("kim", password="pbkdf2_sha256$2000000000$" + make_password("x", "salt", "pbkdf2_sha256").split("$", 2)[2])
twin = user("Alice", "md5")
impostor = user("root@example.com", email="mallory@example.com")
spaced = user("two words")

editors = Group.objects.create(name="editors")
readers = Group.objects.create(name="readers")
permission = lambda name: Permission.objects.get(codename=name)
editors.permissions.add(permission("change_note"), permission("view_profile"))
alice.groups.add(editors, readers)
bob.groups.add(readers)
twin.groups.add(readers)
bob.user_permissions.add(permission("change_profile"))
twin.user_permissions.add(permission("add_note"))

note = lambda owner, title, body="": Note.objects.create(owner=owner, title=title, body=body)
notes = [note(alice, f"Note {number}", "Down the rabbit hole. " * number) for number in range(3)]
# A dump keeps milliseconds, of which one is enough for all three.
for number, written in enumerate(notes):
    Note.objects.filter(pk=written.pk).update(created_at=written.created_at - timedelta(minutes=3 - number))
hers, blank = note(bob, "Plans"), note(bob, " ")
note(None, "Nobody's")
note(twin, "Of somebody who stays")
note(carol, "Too long", "x" * 10001)


def profile(user, **fields):
    return Profile.objects.create(user=user, **fields)


of_alice = profile(alice, bio="Curious", birth_date=date(1852, 5, 4), website="https://example.com/alice", favorite_note=hers)
of_alice.friends.add(bob, carol, alice, twin)
profile(bob, website="javascript:alert(1)", favorite_note=blank).friends.add(alice)
profile(carol, birth_date=date(9999, 1, 1), favorite_note=notes[0])
profile(dave, bio="x" * 2001)
profile(heidi, is_active=False)
profile(twin)

issue = lambda user: RefreshToken.for_user(user)
refresh = {name: str(issue(users[name])) for name in ("alice", "bob", "carol", "dave", "frank", "heidi", "Alice")}
blacklisted = issue(carol)
blacklisted.blacklist()
access = {name: str(issue(users[name]).access_token) for name in ("alice", "bob", "Alice")}
expired = issue(dave)
OutstandingToken.objects.filter(jti=expired["jti"]).update(expires_at=JOINED)
orphan = issue(erin)
OutstandingToken.objects.filter(jti=orphan["jti"]).update(user=None)
User.objects.filter(pk=heidi.pk).update(is_active=False)

key = settings.SIMPLE_JWT["SIGNING_KEY"]
now = datetime.now(timezone.utc)
claims = {"token_type": "access", "exp": now + timedelta(minutes=5), "iat": now, "jti": "1", "user_id": str(alice.pk)}
call_command("dumpdata", output=sys.argv[1], verbosity=0)
count = lambda model: model.objects.count()
json.dump(
    {
        "passwords": {name: PASSWORD % name for name, user in users.items() if not user.password.startswith("!")},
        "hashes": {name: user.password for name, user in users.items()},
        "keys": {name: str(user.pk) for name, user in users.items()},
        "refresh": refresh,
        "blacklisted": str(blacklisted),
        "access": access,
        "verifying_key": settings.SIMPLE_JWT["VERIFYING_KEY"],
        "signing_key": key,
        "hs256": jwt.encode(claims, "a secret that can issue as well as it can verify", algorithm="HS256"),
        "notes": {"hers": str(hers.pk), "first": str(notes[0].pk)},
        "counts": {
            "users": count(User),
            "groups": count(Group),
            "user_groups": count(User.groups.through),
            "user_permissions": count(User.user_permissions.through),
            "group_permissions": count(Group.permissions.through),
            "outstanding_tokens": count(OutstandingToken),
            "blacklisted_tokens": count(BlacklistedToken),
            "profiles": count(Profile),
            "notes": count(Note),
            "friends": count(Profile.friends.through),
            "profiles.favorite_note": Profile.objects.filter(favorite_note__isnull=False).count(),
        },
    },
    sys.stdout,
)
