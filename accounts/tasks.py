"""Everything the worker can be asked to do, on one page. Each is a thin task beside its rule; here they are
gathered, with the two that the schedule (project/celery.py) calls for everybody."""

from celery import shared_task

from accounts.services.account import email_addresses, lifecycle, password_resets, sign_in_codes, users
from accounts.services.account.deletion import erase_due_accounts
from accounts.services.account.email_addresses import answer_resend_requests
from accounts.services.account.password_resets import answer_reset_requests
from accounts.services.account.sign_in_codes import answer_sign_in_requests
from accounts.services.authentication import totp
from accounts.services.mail import mail
from accounts.services.mail.mail import check_mail_server, deliver_mail
from accounts.services.profile.export import make_exports, remove_expired_exports
from accounts.services.profile.picture_uploads import publish_upload, remove_orphans, remove_uploads, sweep_uploads
from accounts.services.profile.pictures import remove_discarded_pictures
from accounts.services.security import tickets
from accounts.services.sessions.signing_keys import keep_signing_keys
from accounts.services.staff import usage

__all__ = [
    "answer_resend_requests",
    "answer_reset_requests",
    "answer_sign_in_requests",
    "check_mail_server",
    "deliver_mail",
    "erase_due_accounts",
    "keep_signing_keys",
    "make_exports",
    "prune",
    "publish_upload",
    "remove_discarded_pictures",
    "remove_expired_exports",
    "remove_orphans",
    "remove_uploads",
    "sweep",
    "sweep_uploads",
]


@shared_task(name="accounts.sweep")
def sweep() -> None:
    """Every few seconds: whatever no bell announced, because the broker was away."""
    password_resets.answer_requests()
    sign_in_codes.answer_requests()
    email_addresses.answer_requests()
    mail.take_turn()


@shared_task(name="accounts.prune")
def prune() -> None:
    """Every hour: what has outlived its use."""
    lifecycle.prune()
    users.remove_unverified()
    usage.prune()
    tickets.prune()
    totp.seal_anew()
