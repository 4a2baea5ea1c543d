"""Everything the worker can be asked to do, on one page: the tasks stand beside their rules, those that the schedule
(project/celery.py) calls for everybody stand here."""

from celery import shared_task

from accounts.models import Seen
from accounts.services import mail
from accounts.services.account import deletion, email_requests, export, lifecycle, users
from accounts.services.authentication import totp
from accounts.services.profile import exports, objects, picture_uploads, pictures
from accounts.services.security import tickets
from accounts.services.sessions import signing_keys
from accounts.services.staff import usage

TASKS = (
    deletion.erase_due,
    email_requests.answer,
    export.make_queued,
    exports.remove_expired,
    mail.check_server,
    mail.deliver_mail,
    objects.may_remove,
    picture_uploads.poll_uploads,
    picture_uploads.publish_upload,
    picture_uploads.remove_old,
    picture_uploads.remove_orphans,
    pictures.remove_discarded,
    signing_keys.maintain,
)

# Names under which a web process of an earlier version asks for the same.
for _name in ("reset", "resend", "sign_in"):
    shared_task(name=f"accounts.answer_{_name}_requests")(email_requests.answer.run)


@shared_task(name="accounts.sweep")
def poll() -> None:
    """Every few seconds: what no notification announced, because the broker was away."""
    Seen.objects.is_alive(Seen.WORKER)
    email_requests.answer()
    mail.deliver_mail()


@shared_task(name="accounts.prune")
def prune() -> None:
    """Every hour: what has outlived its use."""
    lifecycle.prune()
    users.remove_unverified()
    usage.prune()
    tickets.prune()
    totp.seal_anew()
