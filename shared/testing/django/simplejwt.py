"""Sends the requests in the file that is named to the four views of simplejwt, and prints the responses as JSON."""

import json
import re
import sys
from datetime import timedelta

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="only the tests know this project, and it signs with 256 bits",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "rest_framework",
        "rest_framework_simplejwt.token_blacklist",
    ],
    REST_FRAMEWORK={"DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"]},
    SIMPLE_JWT={"ROTATE_REFRESH_TOKENS": True, "BLACKLIST_AFTER_ROTATION": True},
)
django.setup()

from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.urls import path
from rest_framework_simplejwt import views
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken

urlpatterns = [
    path("api/token/", views.token_obtain_pair),
    path("api/token/refresh/", views.token_refresh),
    path("api/token/verify/", views.token_verify),
    path("api/token/blacklist/", views.token_blacklist),
]

call_command("migrate", verbosity=0)
requests = json.load(open(sys.argv[1], encoding="utf-8"))
for username, password in requests["users"].items():
    User.objects.create_user(username, password=password)


def expired(kind):
    token = kind.for_user(User.objects.first())
    token.set_exp(lifetime=timedelta(seconds=-1))
    return str(token)


kept = {"expired": {"refresh": expired(RefreshToken), "access": expired(AccessToken)}}
answers = []
for request in requests["requests"]:
    body = re.sub(r"\{\{(\w+)\.(\w+)\}\}", lambda match: kept[match[1]][match[2]], request.get("body", ""))
    headers = {"content_type": request["type"]} if "type" in request else {"content_type": ""}
    answer = Client().generic(request.get("method", "POST"), request["path"], body.encode(), **headers)
    content = json.loads(answer.content)
    if "keep" in request:
        kept[request["keep"]] = content
    answers.append(
        {
            "status": answer.status_code,
            "type": answer.headers.get("content-type", ""),
            "allow": answer.headers.get("allow", ""),
            "challenge": answer.headers.get("www-authenticate", ""),
            "body": content,
        }
    )
json.dump(answers, sys.stdout)
