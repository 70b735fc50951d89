"""A Django project as the origin of this pair was: users, profiles, notes, and tokens of simplejwt."""

import os
from datetime import timedelta
from urllib.parse import parse_qsl, unquote, urlsplit

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

url = urlsplit(os.environ["DATABASE_URL"])
if url.scheme == "sqlite":
    DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": url.path}}
else:
    parameters = dict(parse_qsl(url.query))
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": url.path.lstrip("/"),
            "USER": url.username or "",
            "PASSWORD": unquote(url.password or ""),
            "HOST": parameters.get("host", url.hostname),
            "PORT": url.port or "",
        }
    }

SECRET_KEY = "only the tests know this project"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "rest_framework_simplejwt.token_blacklist",
    "origin.profile",
]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers." + name
    for name in (
        "PBKDF2PasswordHasher",
        "PBKDF2SHA1PasswordHasher",
        "Argon2PasswordHasher",
        "BCryptSHA256PasswordHasher",
        "BCryptPasswordHasher",
        "ScryptPasswordHasher",
        "MD5PasswordHasher",
    )
]

key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
SIMPLE_JWT = {
    "ALGORITHM": "RS256",
    "SIGNING_KEY": key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode(),
    "VERIFYING_KEY": key.public_key()
    .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    .decode(),
    "ACCESS_TOKEN_LIFETIME": timedelta(hours=1),
    "REFRESH_TOKEN_LIFETIME": timedelta(days=30),
}
