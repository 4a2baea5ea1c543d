"""The pages. Names that allauth links to are kept, so that its own templates and redirects find ours."""

from allauth.account import views as allauth_views
from django.urls import path, re_path
from django.views.generic import RedirectView

from accounts.pages import account, factors, mail_previews, sign_in

urlpatterns = [
    path("", account.overview, name="overview"),
    path("language/", account.language, name="language"),
    path("brand-<str:color>.css", account.brand_stylesheet, name="brand_stylesheet"),
    # In development only
    path("mails/", mail_previews.mail_list, name="mail_list"),
    path("mails/<str:language>/<str:message>/", mail_previews.mail_html, name="mail_html"),
    # The entrance
    path("login/", sign_in.SignInView.as_view(), name="account_login"),
    path("login/code/", sign_in.RequestSignInCodeView.as_view(), name="account_request_login_code"),
    path("login/code/confirm/", sign_in.SignInByCodeView.as_view(), name="account_confirm_login_code"),
    path("login/second-step/", sign_in.MfaView.as_view(), name="second_step"),
    path("login/second-step/recovery/", sign_in.RecoveryCodeView.as_view(), name="recovery_code"),
    path("login/passkey/", sign_in.PasskeyView.as_view(), name="passkey_sign_in"),
    path("logout/", allauth_views.logout, name="account_logout"),
    path("inactive/", allauth_views.account_inactive, name="account_inactive"),
    path("signup/", sign_in.SignUpView.as_view(), name="account_signup"),
    path("reauthenticate/", sign_in.ReauthenticateView.as_view(), name="account_reauthenticate"),
    path("password/hint/", account.password_hint, name="password_hint"),
    path("password/reset/", sign_in.ForgotPasswordView.as_view(), name="account_reset_password"),
    path("password/reset/done/", account.password_reset_done, name="account_reset_password_done"),
    path(
        "password/reset/key/done/",
        allauth_views.password_reset_from_key_done,
        name="account_reset_password_from_key_done",
    ),
    re_path(
        r"^password/reset/key/(?P<uidb36>[0-9A-Za-z]+)-(?P<key>.+)/$",
        sign_in.ResetPasswordView.as_view(),
        name="account_reset_password_from_key",
    ),
    path("confirm-email/", account.email_confirm, name="email_confirm"),
    path("confirm-email/again/", account.email_resend, name="email_resend"),
    path("confirm-email/<str:key>/", account.email_confirm_link, name="account_confirm_email"),
    path("confirm-email/", account.email_confirm, name="account_email_verification_sent"),
    path("email/undo/<str:key>/", account.email_undo, name="email_undo"),
    # The account
    path("profile/", account.profile, name="profile"),
    path("profile/picture/uploads/", account.picture_upload_begin, name="picture_upload_begin"),
    path("profile/picture/uploads/<uuid:upload_id>/", account.picture_upload_state, name="picture_upload_state"),
    path(
        "profile/picture/uploads/<uuid:upload_id>/complete/",
        account.picture_upload_complete,
        name="picture_upload_complete",
    ),
    path("email/", account.email, name="account_email"),
    path("email/cancel/", account.email_cancel, name="email_cancel"),
    path("password/change/", sign_in.ChangePasswordView.as_view(), name="account_change_password"),
    path("password/set/", RedirectView.as_view(pattern_name="account_reset_password"), name="account_set_password"),
    path("two-step/", factors.overview, name="two_step"),
    path("two-step/on/", factors.turn_on, name="two_step_turn_on"),
    path("two-step/off/", factors.turn_off, name="two_step_turn_off"),
    path("two-step/recovery-codes/", factors.recovery_codes, name="recovery_codes"),
    path("two-step/passkeys/add/", factors.passkey_add, name="passkey_add"),
    path("two-step/passkeys/<uuid:passkey_id>/", factors.passkey, name="passkey"),
    path("two-step/passkeys/<uuid:passkey_id>/remove/", factors.passkey_remove, name="passkey_remove"),
    path("devices/", account.session_list, name="session_list"),
    path("devices/<uuid:session_id>/end/", account.session_end, name="session_end"),
    path("activity/", account.activity, name="activity"),
    path("data/", account.data, name="data"),
    path("data/export/", account.export_request, name="export_request"),
    path("data/export/download/", account.export_download, name="export_download"),
    path("delete/", account.deletion_request, name="deletion_request"),
    path("delete/cancel/", account.deletion_cancel, name="deletion_cancel"),
    path("delete/undo/<str:key>/", account.deletion_undo, name="deletion_undo"),
    path("devices/end-others/", account.session_end_others, name="session_end_others"),
]
