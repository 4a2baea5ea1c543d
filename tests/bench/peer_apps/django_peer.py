"""Settings of the peers that are Django apps. PEER names which; each is set up as its own documentation says."""

import os

import dj_database_url

PEER = os.environ["PEER"]
SECRET_KEY = os.environ["SECRET_KEY"]
DATABASES = {"default": {**dj_database_url.parse(os.environ["DATABASE_URL"]), "CONN_MAX_AGE": 600}}
CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": os.environ["REDIS_URL"]}}
ALLOWED_HOSTS = ["*"]
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["peer_hasher.Argon2"]
# Handing an email over costs nothing here; ours goes into its queue all the same.
EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"
ROOT_URLCONF = f"{PEER}_urls"
WSGI_APPLICATION = "django_peer_wsgi.application"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes"]
MIDDLEWARE: list[str] = []
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
_SAFE = {"ROTATE_REFRESH_TOKENS": True, "BLACKLIST_AFTER_ROTATION": True}

if PEER == "djoser":
    INSTALLED_APPS += ["rest_framework", "rest_framework_simplejwt.token_blacklist", "djoser"]
    REST_FRAMEWORK = {
        "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework_simplejwt.authentication.JWTAuthentication"],
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
        "UNAUTHENTICATED_USER": None,
    }
    SIMPLE_JWT = {"AUTH_HEADER_TYPES": ["Bearer"], **_SAFE}
    DJOSER = {"PASSWORD_RESET_CONFIRM_URL": "reset/{uid}/{token}"}
elif PEER == "ninja_jwt":
    INSTALLED_APPS += ["ninja_extra", "ninja_jwt", "ninja_jwt.token_blacklist"]
    NINJA_JWT = _SAFE
elif PEER == "allauth":
    INSTALLED_APPS += [
        "django.contrib.sessions",
        "django.contrib.messages",
        "allauth",
        "allauth.account",
        "allauth.headless",
    ]
    MIDDLEWARE += [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
        "allauth.account.middleware.AccountMiddleware",
    ]
    AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
    ACCOUNT_RATE_LIMITS = False
    ACCOUNT_LOGIN_METHODS = {"username", "email"}
    HEADLESS_ONLY = True
    HEADLESS_TOKEN_STRATEGY = "allauth.headless.tokens.strategies.jwt.JWTTokenStrategy"
    HEADLESS_JWT_ALGORITHM = "HS256"
    HEADLESS_JWT_ROTATE_REFRESH_TOKEN = True
    HEADLESS_FRONTEND_URLS = {
        "account_confirm_email": "https://app.example.com/confirm/{key}",
        "account_reset_password": "https://app.example.com/reset",
        "account_reset_password_from_key": "https://app.example.com/reset/{key}",
        "account_signup": "https://app.example.com/signup",
    }
