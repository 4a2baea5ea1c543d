"""/livez: the process answers. /readyz: it can also do its work (the database answers, and takes writes)."""

from django.db import DatabaseError, InterfaceError, connection
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe


@require_safe
def livez(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok\n", content_type="text/plain")


@never_cache
@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """Redis, SMTP and S3 are left out on purpose: without them people still sign in, and taking every web
    process out of service would be the greater failure."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('transaction_read_only')::bool")
            [is_read_only] = cursor.fetchone()
    except (DatabaseError, InterfaceError):
        return _not_ready("the database does not answer")
    return _not_ready("the database takes no writes") if is_read_only else _say("ok", 200)


def _not_ready(why: str) -> HttpResponse:
    connection.close()  # the next look is at whichever server there is then
    return _say(why, 503)


def _say(text: str, status: int) -> HttpResponse:
    return HttpResponse(f"{text}\n", status=status, content_type="text/plain")
