"""The one settings file. What differs between development, test and production are values, so it differs in
the environment: every name is in `.env.example`, which is written from this file."""

from datetime import timedelta
from email.utils import formataddr
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from botocore.config import Config
from django.core.exceptions import ImproperlyConfigured
from django_guid.integrations.celery import CeleryIntegration

from project import env

BASE_DIR = Path(__file__).resolve().parent.parent

# --- Where and who ------------------------------------------------------------------------------------------

DEBUG = env.flag("DEBUG", False, "Development only: error pages with source, the page that shows every mail.")
SECRET_KEY = env.text(
    "SECRET_KEY",
    None,
    "At least 50 random characters. Signs cookies and refresh tokens and seals what the database keeps secret.",
    secret=True,
)
SECRET_KEY_FALLBACKS = env.items(
    "SECRET_KEY_FALLBACKS",
    "",
    "Other values of SECRET_KEY that are understood, divided by commas: earlier ones, newest first, and the next one "
    "before a change. So no value has a comma.",
    secret=True,
)
PUBLIC_URL = env.public_url(
    "PUBLIC_URL",
    "The address that people type, without a path: https://accounts.example.com. Links in mails and the issuer of "
    "tokens are built from it and never from the Host header.",
)
_public = urlsplit(PUBLIC_URL)
HTTPS = _public.scheme == "https"
_public_host = _public.netloc.removesuffix(f":{_public.port}")  # with the brackets of version 6
_is_number = _public_host.endswith("]") or _public_host.replace(".", "").isdecimal()
ALLOWED_HOSTS = [
    env.ascii_host(host)
    for host in env.items(
        "ALLOWED_HOSTS", _public_host, "Host names that are answered, divided by commas. Default: that of PUBLIC_URL."
    )
]
TRUSTED_PROXY_COUNT = env.number(
    "TRUSTED_PROXY_COUNT", 0, "Proxies of yours in front that add to X-Forwarded-For. 0: that header is not read."
)
SITE_NAME = env.text("SITE_NAME", "Crew", "The name on pages and in mails.")
SITE_LOGO = env.text(
    "SITE_LOGO", "", "A picture beside the name on pages: https://…, /path, or a file below static/. Empty: our mark."
)
ACCENT_COLOR = env.text(
    "ACCENT_COLOR",
    "",
    "The brand's colour as #rrggbb, on pages and in mails. It is made darker or lighter where it could not be read.",
)
SUPPORT_EMAIL = env.text(
    "SUPPORT_EMAIL", "", "Where people write to for help: on every page, in mails and as their Reply-To."
)

SECURITY_CONTACT = [
    contact if ":" in contact else f"mailto:{contact}"
    for contact in env.items(
        "SECURITY_CONTACT",
        "",
        "Where to report a vulnerability, as /.well-known/security.txt says it: an email address or https://…, several "
        "divided by commas. Empty: there is no such file.",
    )
]

ROOT_URLCONF = "project.urls"
WSGI_APPLICATION = "project.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
APPEND_SLASH = True

INSTALLED_APPS = [
    "project",  # for its commands
    "accounts",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "allauth",
    "allauth.account",
    "django_guid",
    "ninja",
    "post_office",
    "storages",
]

# Pages walk through all of these, the API through none but its own (project/wsgi.py).
MIDDLEWARE = [
    "project.metrics.PageTimes",
    "accounts.http.RequestMiddleware",
    "accounts.http.AccessMiddleware",
    # These three before whatever may refuse a request: a refusal has their headers too.
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "accounts.pages.middleware.PageMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "accounts.pages.middleware.BrowserSessionMiddleware",
    "accounts.pages.middleware.TimeZoneMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "allauth.account.middleware.AccountMiddleware",
]
API_MIDDLEWARE = [
    "project.metrics.ApiTimes",
    "accounts.http.RequestMiddleware",
    "accounts.http.AccessMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "api.middleware.CorsMiddleware",
    "api.middleware.ProblemMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "accounts.pages.middleware.site",
            ],
        },
    }
]
FORM_RENDERER = "django.forms.renderers.TemplatesSetting"
# So that Django's own form templates are found behind ours.
INSTALLED_APPS.append("django.forms")

# --- Postgres -----------------------------------------------------------------------------------------------


def _database(url: str) -> dict[str, Any]:
    """A database of this address, served by accounts/lib/postgres/base.py."""
    parsed = {
        **env.database(url),
        "ENGINE": "accounts.lib.postgres",
        "CONN_MAX_AGE": env.number("DATABASE_CONN_MAX_AGE", 600, "Seconds that a connection is kept open."),
        "CONN_HEALTH_CHECKS": True,
        "DISABLE_SERVER_SIDE_CURSORS": env.flag(
            "DATABASE_TRANSACTION_POOLING", False, "1 behind PgBouncer in transaction mode."
        ),
    }
    # Seconds until a host that does not answer is given up, less for each of several; the last is in milliseconds.
    # What the address itself says goes before.
    given = parsed.get("OPTIONS", {})
    several = "," in f"{parsed['HOST']}{given.get('host', '')}"
    parsed["OPTIONS"] = {
        "connect_timeout": 2 if several else 3,
        "keepalives_idle": 10,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,
        **given,
    }
    return parsed


DATABASES = {
    "default": _database(
        env.text(
            "DATABASE_URL",
            None,
            "postgres://user:password@host:5432/name. Of several servers the one that takes writes: "
            "postgres://user:password@host1:5432,host2:5432/name?target_session_attrs=read-write",
            secret=True,
        )
    )
}
# Asked only where a rule says so (accounts/lib/replica.py), so no router sends anything there.
_replica = env.text(
    "DATABASE_REPLICA_URL",
    "",
    "A copy of the database that only answers: postgres://user:password@host:5432/name. The directory and the pages of "
    "staff are read there; empty, or while it is away: from DATABASE_URL.",
    secret=True,
)
if _replica:
    DATABASES["replica"] = {**_database(_replica), "TEST": {"MIRROR": "default"}}

# --- Valkey or Redis: the broker of the worker, and coarse limits ---------------------------------------------

REDIS_URL = env.redis_url(
    "REDIS_URL",
    "redis://host:6379/0 (Valkey or Redis), or rediss:// for TLS. The certificate is verified; ?ssl_ca_certs=/path "
    "names an authority of your own, ?ssl_cert_reqs=none verifies nothing.",
)
CELERY_BROKER_URL = REDIS_URL
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# Else the worker ends for good when the broker answers with an error: a replica after a failover, or no memory left.
CELERY_BROKER_CHANNEL_ERROR_RETRY = True
# For web processes, where a broker that is down or mute must not hold up an answer. The worker takes its own
# (project/celery.py).
CELERY_BROKER_TRANSPORT_OPTIONS = {"max_retries": 0, "socket_connect_timeout": 0.3, "socket_timeout": 0.3}
SWEEP_INTERVAL = env.number(
    "SWEEP_INTERVAL", 5, "Seconds between two polls for emails and requests whose notification was lost."
)

# --- Mail ---------------------------------------------------------------------------------------------------

_mail, _starttls = env.smtp(
    "EMAIL_URL", "smtp://user:password@host:587?tls=1 (STARTTLS), smtps://host:465 (TLS) or smtp://host:25."
)
EMAIL_BACKEND = "accounts.services.mail.queue.QueueBackend"
EMAIL_HOST = _mail.hostname
EMAIL_PORT = _mail.port or (465 if _mail.scheme == "smtps" else 25)
EMAIL_HOST_USER = unquote(_mail.username or "")
EMAIL_HOST_PASSWORD = unquote(_mail.password or "")
EMAIL_USE_SSL = _mail.scheme == "smtps"
EMAIL_USE_TLS = _starttls
EMAIL_TIMEOUT = env.number("EMAIL_TIMEOUT", 15, "Seconds before an SMTP server that does not answer is given up on.")
DEFAULT_FROM_EMAIL = env.text(
    "EMAIL_FROM",
    formataddr((SITE_NAME, f"no-reply@{'localhost' if _is_number else _public_host}")),
    "The sender of every mail. Default: no-reply at PUBLIC_URL.",
)
SERVER_EMAIL = DEFAULT_FROM_EMAIL
MAIL_RETENTION = timedelta(days=env.number("MAIL_RETENTION_DAYS", 30, "Days that the record of a mail is kept."))
ANYMAIL_ESP = env.choice(
    "ANYMAIL_ESP",
    "",
    ("", "amazon_ses", "mailgun", "postmark"),
    "The mail service behind EMAIL_URL, if it shall tell of bounces at /hooks/mail/ (needs django-anymail).",
)
ANYMAIL = {
    "WEBHOOK_SECRET": env.text(
        "ANYMAIL_WEBHOOK_SECRET", "", "user:password that the mail service's webhook is called with.", secret=True
    ),
    "MAILGUN_WEBHOOK_SIGNING_KEY": env.text(
        "ANYMAIL_MAILGUN_SIGNING_KEY", "", "Mailgun's HTTP webhook signing key.", secret=True
    ),
}
if ANYMAIL_ESP:
    if not ANYMAIL["WEBHOOK_SECRET"]:
        raise ImproperlyConfigured("ANYMAIL_ESP needs ANYMAIL_WEBHOOK_SECRET: else anybody could tell of bounces.")
    if ANYMAIL_ESP == "mailgun" and not ANYMAIL["MAILGUN_WEBHOOK_SIGNING_KEY"]:
        raise ImproperlyConfigured("ANYMAIL_ESP=mailgun needs ANYMAIL_MAILGUN_SIGNING_KEY.")
    INSTALLED_APPS.append("anymail")
POST_OFFICE = {"LOG_LEVEL": 0, "CELERY_ENABLED": False, "DEFAULT_PRIORITY": "medium"}

# --- Pictures -----------------------------------------------------------------------------------------------

S3_BUCKET = env.text(
    "S3_BUCKET",
    "pictures",
    "The bucket of the pictures (pictures/, and incoming/ while they are uploaded) and of the copies of people's data "
    "(exports/). It stays private: addresses are signed.",
)
_s3 = {
    "bucket_name": S3_BUCKET,
    "access_key": env.text("S3_ACCESS_KEY_ID", None, "The key id for the bucket.", secret=True),
    "secret_key": env.text("S3_SECRET_ACCESS_KEY", None, "The secret key for the bucket.", secret=True),
    "region_name": env.text("S3_REGION", "us-east-1", "The bucket's region; look-alikes want one too."),
    # A storage that is down or mute must not hold a thread: botocore's own numbers are 60 s a try and five tries. It
    # also waits a second before it sends a file, for the storage to agree. The worker takes more (project/celery.py).
    "client_config": Config(
        signature_version="s3v4",
        s3={
            "addressing_style": env.choice(
                "S3_ADDRESSING_STYLE", "path", ("path", "virtual"), "path for look-alikes, virtual for AWS."
            )
        },
        request_checksum_calculation="when_required",
        connect_timeout=2,
        read_timeout=2,
        retries={"total_max_attempts": 1, "mode": "standard"},
    ),
    "default_acl": None,
    "file_overwrite": True,  # keys come from the content, so the same key is the same picture
    "querystring_expire": env.number("PICTURE_URL_LIFETIME", 3600, "Seconds that a signed picture address works."),
}
S3_ENDPOINT_URL = env.server("S3_ENDPOINT_URL", "", "How this service reaches the storage. Empty: AWS.") or None
S3_PUBLIC_ENDPOINT_URL = (
    env.server("S3_PUBLIC_ENDPOINT_URL", "", "How browsers and apps reach it. Empty: the same.") or S3_ENDPOINT_URL
)
PICTURE_URL_LIFETIME: int = _s3["querystring_expire"]
_endpoint = urlsplit(S3_PUBLIC_ENDPOINT_URL or f"https://s3.{_s3['region_name']}.amazonaws.com")
# The bucket as browsers and apps reach it.
S3_PUBLIC_BUCKET_URL = (
    f"{_endpoint.scheme}://{S3_BUCKET}.{_endpoint.netloc}"
    if _s3["client_config"].s3["addressing_style"] == "virtual"
    else f"{_endpoint.scheme}://{_endpoint.netloc}{_endpoint.path.rstrip('/')}/{S3_BUCKET}"
)
PICTURE_CDN_URL = env.server(
    "PICTURE_CDN_URL",
    "",
    "A public address in front of the folder pictures/ alone, without a slash at the end: https://cdn.example.com. "
    "Empty: addresses are signed and run out.",
).rstrip("/")
STORAGES = {
    "default": {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": {**_s3, "endpoint_url": S3_ENDPOINT_URL}},
    # Only signs: an address signed for the inner name is refused at the public one.
    "public": {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": {**_s3, "endpoint_url": S3_PUBLIC_ENDPOINT_URL}},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
}
PICTURE_MAX_BYTES = env.number("PICTURE_MAX_BYTES", 10 * 1024 * 1024, "The largest picture that is taken, in bytes.")
PICTURE_MAX_PIXELS = env.number("PICTURE_MAX_PIXELS", 50_500_000, "The most pixels that are decoded.")
# A form with a picture in it: the picture, and room for the rest.
DATA_UPLOAD_MAX_MEMORY_SIZE = 64 * 1024
FILE_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 150  # as many ids as one getUsers asks for, and more than any form has
DATA_UPLOAD_MAX_NUMBER_FILES = 2

# --- Accounts -----------------------------------------------------------------------------------------------

AUTH_USER_MODEL = "accounts.User"
# Only remembers who is signed in and what staff may do; whether a password is right is decided in
# accounts/services/authentication/sign_in.py alone.
AUTHENTICATION_BACKENDS = ["accounts.adapter.Backend"]
SIGNUP_OPEN = env.flag("SIGNUP_OPEN", True, "0 closes sign-up on both faces.")
EMAIL_VERIFICATION = env.choice(
    "EMAIL_VERIFICATION",
    "optional",
    ("optional", "mandatory"),
    "mandatory: nobody is signed in before the address is proved.",
)
DIRECTORY_ACCESS = env.choice(
    "DIRECTORY_ACCESS", "signed_in", ("signed_in", "staff"), "Who may list the ids of all users, and see other people."
)
DIRECTORY_NAMES = env.flag("DIRECTORY_NAMES", False, "1 shows first and last names, beside username and picture.")
UNPROVED_ACCOUNT_LIFETIME = timedelta(
    days=env.number(
        "UNPROVED_ACCOUNT_LIFETIME_DAYS", 30, "Accounts that never proved an address are removed when unused so long."
    )
)
PASSWORD_MIN_LENGTH = env.number("PASSWORD_MIN_LENGTH", 12, "The fewest characters of a new password.")
PASSWORD_MAX_LENGTH = 128
BREACHED_PASSWORDS_URL = env.server(
    "BREACHED_PASSWORDS_URL",
    "",
    "Where new passwords are looked up by k-anonymity: https://api.pwnedpasswords.com/range, or a mirror of it. "
    "Empty: nowhere. No answer in 300 ms: the password is taken.",
)
ARGON2_MEMORY_KIB = env.number("ARGON2_MEMORY_KIB", 19 * 1024, "Memory of one Argon2id hash (OWASP's minimum).")
ARGON2_TIME_COST = env.number("ARGON2_TIME_COST", 2, "Passes of one Argon2id hash.")
ARGON2_PARALLELISM = env.number("ARGON2_PARALLELISM", 1, "Lanes of one Argon2id hash.")
PASSWORD_HASH_CONCURRENCY = env.number(
    "PASSWORD_HASH_CONCURRENCY",
    2,
    "Hashes at a time in one process. The others wait, so that no crowd eats the memory.",
)
PASSWORD_HASH_WAIT = env.number("PASSWORD_HASH_WAIT", 3, "Seconds of waiting for that before 503 and Retry-After.")
PASSWORD_HASHERS = [
    "accounts.services.credentials.hashing.Argon2id",
    "accounts.services.credentials.imported_hashes.ImportedHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
FIREBASE_SIGNER_KEY = env.text(
    "FIREBASE_SIGNER_KEY",
    "",
    "base64_signer_key of the Firebase project that users were imported from (docs/importing.md). Keep it as long as "
    "some of them have not signed in.",
    secret=True,
)

ACCESS_TOKEN_LIFETIME = timedelta(seconds=env.number("ACCESS_TOKEN_LIFETIME", 900, "Seconds an access token works."))
SIGNING_ALGORITHM = env.choice(
    "SIGNING_ALGORITHM", "ES256", ("ES256", "RS256", "EdDSA"), "What new signing keys are for; old ones run out."
)
SIGNING_KEY_LIFETIME = timedelta(
    days=env.number("SIGNING_KEY_DAYS", 90, "Days that a key signs. The next one is published a day before.")
)
SIGNING_KEY_FILES = env.items(
    "SIGNING_KEY_FILES",
    "",
    "PEM files with private keys, divided by commas, the signing one first. Empty: keys are made and kept in Postgres.",
)
ACCESS_TOKEN_AUDIENCE = env.text("ACCESS_TOKEN_AUDIENCE", "api", "The aud claim of access tokens.")
REFRESH_IDLE_LIFETIME = timedelta(days=env.number("REFRESH_IDLE_DAYS", 30, "Days after which an unused session ends."))
REFRESH_ABSOLUTE_LIFETIME = timedelta(
    days=env.number("REFRESH_ABSOLUTE_DAYS", 180, "Days after which any session ends.")
)
CODE_LIFETIME = timedelta(minutes=10)
LINK_LIFETIME = timedelta(hours=1)
UNDO_LIFETIME = timedelta(days=7)  # of the link that takes a change of address back
DELETION_GRACE = timedelta(
    days=env.number("DELETION_GRACE_DAYS", 14, "Days between asking for the deletion of an account and its erasure.")
)
USERNAME_REST = timedelta(
    days=env.number(
        "USERNAME_REST_DAYS",
        90,
        "Days that nobody can take the username that an account had which was erased or took another. Kept as an HMAC.",
    )
)
EXPORT_LIFETIME = timedelta(days=7)  # of the copy of somebody's data, from its making
SIGN_IN_BY_CODE = env.flag("SIGN_IN_BY_CODE", True, "0 takes away signing in by a code that is mailed.")
RATE_LIMITS = env.items(
    "RATE_LIMITS", "", "Other numbers for limits: login_per_ip=100/300,signup_per_ip=50/3600 (tries/seconds)."
)
REFUSED_EMAIL_DOMAINS_FILE = env.text(
    "REFUSED_EMAIL_DOMAINS_FILE",
    "",
    "A file with email domains, one on each line, that no new account or changed address may have, nor their "
    "subdomains. # begins a comment. Read once.",
)
PROOF_OF_WORK = env.flag(
    "PROOF_OF_WORK",
    True,
    "Networks with many sign-ups or requests for emails compute something for each further one (a browser does it by "
    "itself). 0: they don't, up to the hard limit.",
)
EVENT_RETENTION = timedelta(days=env.number("EVENT_RETENTION_DAYS", 400, "Days that the security log is kept."))

# --- Signing in with others ---------------------------------------------------------------------------------


_providers = env.items(
    "PROVIDERS",
    "",
    "Who else people may sign in with, divided by commas: google, apple, microsoft, or a name of your own: corp "
    "has PROVIDER_CORP_ISSUER and so on.",
)


def _provider(x: str) -> dict[str, Any]:
    """The fields of accounts/services/authentication/providers.Provider. What is empty is what is known of it there."""
    return {
        "name": env.text("PROVIDER_X_NAME", "", "What people know the provider by. Google, Apple, … have theirs.", x=x),
        "issuer": env.text(
            "PROVIDER_X_ISSUER",
            "",
            "The provider's OpenID issuer: https://login.example.com. Needed for all but google, apple and microsoft.",
            x=x,
        ),
        "client_ids": tuple(
            env.items(
                "PROVIDER_X_CLIENT_IDS",
                "",
                "The ids by which the provider knows your apps, divided by commas. Its ID tokens are accepted if they "
                "were made for these alone.",
                x=x,
            )
        ),
        "mail_domains": tuple(
            env.ascii_host(domain)
            for domain in env.items(
                "PROVIDER_X_MAIL_DOMAINS",
                "",
                "Domains whose addresses this provider may vouch for, divided by commas. It can then sign in as every "
                "account with such an address.",
                x=x,
            )
        ),
        "signup": env.flag("PROVIDER_X_SIGNUP", True, "0: only people who have an account already can use it.", x=x),
        "mfa": env.flag(
            "PROVIDER_X_MFA", False, "1: where it says that it asked for a second factor (amr), ours is not asked.", x=x
        ),
        "internal": env.flag(
            "PROVIDER_X_INTERNAL", DEBUG, "1 for an issuer in your own network: private addresses are allowed.", x=x
        ),
        "tenants": tuple(
            env.items(
                "PROVIDER_X_TENANTS",
                "",
                "Microsoft alone: ids of the tenants whose people may sign in, divided by commas. Empty: all.",
                x=x,
            )
        ),
    }


_provider("X")  # so that the names are remembered
PROVIDERS = {name: _provider(name.upper()) for name in _providers}
PROVIDER_SETTINGS_UNREAD = env.unread("PROVIDER_")

# --- Apps -----------------------------------------------------------------------------------------------------

APPLE_APP_IDS = env.items(
    "APPLE_APP_IDS",
    "",
    "iOS apps that may open reset and confirmation links, divided by commas: TEAMID.com.example.app",
)
ANDROID_APPS = env.items(
    "ANDROID_APPS",
    "",
    "Android apps that may, divided by commas: com.example.app=AB:CD:… (the SHA-256 of the signing certificate).",
)
CORS_ALLOWED_ORIGINS = env.origins(
    "CORS_ALLOWED_ORIGINS",
    "Web apps on other hosts whose pages may call the API, divided by commas: https://app.example.com. For uploads the "
    "bucket has a list of its own (docs/bucket.md).",
)
API_V1_DEPRECATED_AT = env.moment(
    "API_V1_DEPRECATED_AT", "When version 1 was deprecated, as 2027-01-31: sent as Deprecation (RFC 9745)."
)
API_V1_SUNSET_AT = env.moment("API_V1_SUNSET_AT", "When version 1 stops, as 2028-01-31: sent as Sunset (RFC 8594).")
API_V1_SUCCESSOR = env.text(
    "API_V1_SUCCESSOR", "", "The page that tells apps how to move on: sent as Link with rel=successor-version."
)
COUNT_API_USE = True  # services/staff/usage.py; tests ask it themselves

# --- allauth: the browser's flows; every decision comes back to our rules through its adapter ---------------

ACCOUNT_ADAPTER = "accounts.pages.allauth_adapter.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"username", "email"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "email*", "password1*"]
ACCOUNT_PRESERVE_USERNAME_CASING = False
ACCOUNT_EMAIL_VERIFICATION = "none"  # ours decides (accounts/services/authentication/sign_in.py)
ACCOUNT_RATE_LIMITS = False  # ours count, once for both faces
ACCOUNT_LOGOUT_ON_GET = False
ACCOUNT_SESSION_REMEMBER = None
ACCOUNT_EMAIL_NOTIFICATIONS = False
ACCOUNT_SIGNUP_REDIRECT_URL = "email_confirm"
ACCOUNT_LOGOUT_REDIRECT_URL = "account_login"
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
ACCOUNT_FORMS = {
    "login": "accounts.pages.forms.LoginForm",
    "signup": "accounts.pages.forms.SignUpForm",
    "reset_password": "accounts.pages.forms.ForgotPasswordForm",
    "user_token": "accounts.pages.forms.ResetKeyForm",
    "reset_password_from_key": "accounts.pages.forms.NewPasswordForm",
    "change_password": "accounts.pages.forms.ChangePasswordForm",
}
ALLAUTH_TRUSTED_PROXY_COUNT = TRUSTED_PROXY_COUNT
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "overview"

# --- The browser's session and safety -----------------------------------------------------------------------

_host_prefix = "__Host-" if HTTPS else ""
SESSION_ENGINE = "accounts.pages.browser_sessions"
SESSION_COOKIE_NAME = f"{_host_prefix}session"
SESSION_COOKIE_AGE = 60 * 60 * 24 * 30
SESSION_COOKIE_SECURE = HTTPS
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
LANGUAGE_COOKIE_NAME = f"{_host_prefix}language"
LANGUAGE_COOKIE_AGE = 60 * 60 * 24 * 365
LANGUAGE_COOKIE_SECURE = HTTPS
LANGUAGE_COOKIE_HTTPONLY = True
LANGUAGE_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_NAME = f"{_host_prefix}csrf"
CSRF_COOKIE_SECURE = HTTPS
CSRF_COOKIE_HTTPONLY = True
MESSAGE_STORAGE = "accounts.pages.middleware.Messages"
MESSAGE_COOKIE_NAME = f"{_host_prefix}messages"
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]
CSRF_FAILURE_VIEW = "accounts.pages.account.csrf_failure"
SECURE_SSL_REDIRECT = False  # the proxy's task: behind it every request looks like plain HTTP
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if TRUSTED_PROXY_COUNT else None
# For this host alone: its subdomains may be other services, without https.
_hsts = env.number(
    "HSTS",
    31_536_000,
    "With https in PUBLIC_URL: seconds that browsers call this host by https alone (Strict-Transport-Security). "
    "Nothing is said of subdomains. 0: no such header, but browsers keep to what they were told before.",
)
if _hsts < 0:
    raise ImproperlyConfigured("HSTS must be a number of seconds, 0 or more.")
SECURE_HSTS_SECONDS = _hsts if HTTPS else 0
# Other sites learn nothing of an address (the bucket of the pictures neither), and where an emailed key is part of one,
# our own log leaves it out. With "no-referrer" browsers would name no origin in forms, which CSRF protection asks for.
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SILENCED_SYSTEM_CHECKS = [
    "security.W008",  # SECURE_SSL_REDIRECT: see above; nginx in docker-compose.yml and any TLS proxy does it
    "security.W005",  # HSTS for subdomains, and its preloading: theirs is not this service's to decide
    "security.W021",
]

# --- Words, times, files ------------------------------------------------------------------------------------

# Each in its own words, for the switcher. Message files: `make messages`.
LANGUAGES = [("en", "English"), ("de", "Deutsch"), ("fr", "Français"), ("es", "Español"), ("ar", "العربية")]
LANGUAGE_CODE = env.choice(
    "LANGUAGE_CODE",
    "en",
    tuple(code for code, _name in LANGUAGES),
    "The language of emails, and of people whose browser or app asks for none.",
)
FORMAT_MODULE_PATH = ["project.formats"]
LOCALE_PATHS = [BASE_DIR / "locale"]
USE_I18N = True
USE_TZ = True
TIME_ZONE = env.time_zone("TIME_ZONE", "UTC", "The zone of times for people who have chosen none, and of the log.")
STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = env.text(
    "STATIC_ROOT", str(BASE_DIR / "staticroot"), "Where collectstatic puts files for the web server."
)

# --- Watching -----------------------------------------------------------------------------------------------

METRICS_TOKEN = env.text(
    "METRICS_TOKEN",
    "",
    "What Prometheus sends as `Authorization: Bearer`, to read GET /metrics. Empty: nothing is measured, and 404.",
    secret=True,
)
SERVICE_VERSION = env.text(
    "SERVICE_VERSION", "unknown", "What /metrics says is running here. The image brings its own."
)

# --- The log --------------------------------------------------------------------------------------------------

# The ids of a request go with the tasks that it enqueues. (Which they are: accounts.http.RequestMiddleware.)
DJANGO_GUID = {"GUID_HEADER_NAME": "X-Request-Id", "INTEGRATIONS": [CeleryIntegration()]}
LOG_LEVEL = env.choice(
    "LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"), "DEBUG, INFO, WARNING or ERROR."
)
LOG_FORMAT = env.choice("LOG_FORMAT", "text", ("text", "json"), "json: each line is one JSON object.")
ACCESS_LOG = env.flag("ACCESS_LOG", False, "1 logs a line for each request, without its path and its query string.")
OTEL_EXPORTER_OTLP_ENDPOINT = env.server(
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "",
    "Where traces are sent (OTLP over HTTP): http://collector:4318 (needs opentelemetry; docs/operating.md). Empty: "
    "nowhere.",
)
OTEL_TRACES_SAMPLER_ARG = env.share(
    "OTEL_TRACES_SAMPLER_ARG", 0.01, "The share of requests that is traced, from 0 to 1."
)
if OTEL_EXPORTER_OTLP_ENDPOINT:
    for _chain in (MIDDLEWARE, API_MIDDLEWARE):
        _chain.insert(0, "project.tracing.Middleware")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": f"project.logs.{'JsonFormatter' if LOG_FORMAT == 'json' else 'Formatter'}"}},
    "filters": {"outages": {"()": "project.logs.Outages"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["outages"]}},
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    "loggers": {
        # Without Django's own handler, which writes each line once more while DEBUG is on, whatever it says.
        "django": {"level": "INFO"},
        # A refusal is logged once, by accounts.http.log_refusal, with its reason.
        "django.request": {"level": "ERROR"},
        "django.security.csrf": {"level": "CRITICAL"},
        "django.server": {"level": "WARNING"},
        "django_guid": {"level": "WARNING"},
        # Each task that is due, and each that arrives. That it is done is said too (project/celery.py).
        "celery.beat": {"level": "WARNING"},
        "celery.worker.strategy": {"level": "WARNING"},
        "fido2": {"level": "WARNING"},  # it logs the id of each passkey that is used
    },
}
