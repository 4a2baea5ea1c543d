"""The pages. Names that allauth links to are kept, so that its own templates and redirects find ours."""

from allauth.account import views as allauth_views
from django.urls import path, re_path
from django.views.generic import RedirectView

from accounts import adapter, mail_previews, two_step_views, views

urlpatterns = [
    path("", views.overview, name="overview"),
    path("language/", views.language, name="language"),
    path("brand-<str:color>.css", views.brand_stylesheet, name="brand_stylesheet"),
    # In development only
    path("mails/", mail_previews.mail_list, name="mail_list"),
    path("mails/<str:language>/<str:message>/", mail_previews.mail_html, name="mail_html"),
    # The entrance
    path("login/", adapter.SignInView.as_view(), name="account_login"),
    path("login/code/", adapter.RequestSignInCodeView.as_view(), name="account_request_login_code"),
    path("login/code/confirm/", adapter.SignInByCodeView.as_view(), name="account_confirm_login_code"),
    path("login/second-step/", adapter.SecondStepView.as_view(), name="second_step"),
    path("login/second-step/recovery/", adapter.RecoveryCodeView.as_view(), name="recovery_code"),
    path("login/passkey/", adapter.PasskeyView.as_view(), name="passkey_sign_in"),
    path("logout/", allauth_views.logout, name="account_logout"),
    path("inactive/", allauth_views.account_inactive, name="account_inactive"),
    path("signup/", adapter.SignUpView.as_view(), name="account_signup"),
    path("reauthenticate/", adapter.ReauthenticateView.as_view(), name="account_reauthenticate"),
    path("password/reset/", adapter.ForgotPasswordView.as_view(), name="account_reset_password"),
    path("password/reset/done/", views.password_reset_done, name="account_reset_password_done"),
    path(
        "password/reset/key/done/",
        allauth_views.password_reset_from_key_done,
        name="account_reset_password_from_key_done",
    ),
    re_path(
        r"^password/reset/key/(?P<uidb36>[0-9A-Za-z]+)-(?P<key>.+)/$",
        adapter.ResetPasswordView.as_view(),
        name="account_reset_password_from_key",
    ),
    path("confirm-email/", views.email_confirm, name="email_confirm"),
    path("confirm-email/again/", views.email_resend, name="email_resend"),
    path("confirm-email/<str:key>/", views.email_confirm_link, name="account_confirm_email"),
    path("confirm-email/", views.email_confirm, name="account_email_verification_sent"),
    path("email/undo/<str:key>/", views.email_undo, name="email_undo"),
    # The account
    path("profile/", views.profile, name="profile"),
    path("profile/picture/uploads/", views.picture_upload_begin, name="picture_upload_begin"),
    path("profile/picture/uploads/<uuid:upload_id>/", views.picture_upload_state, name="picture_upload_state"),
    path(
        "profile/picture/uploads/<uuid:upload_id>/complete/",
        views.picture_upload_complete,
        name="picture_upload_complete",
    ),
    path("email/", views.email, name="account_email"),
    path("password/change/", adapter.ChangePasswordView.as_view(), name="account_change_password"),
    path("password/set/", RedirectView.as_view(pattern_name="account_change_password"), name="account_set_password"),
    path("two-step/", two_step_views.overview, name="two_step"),
    path("two-step/on/", two_step_views.turn_on, name="two_step_turn_on"),
    path("two-step/off/", two_step_views.turn_off, name="two_step_turn_off"),
    path("two-step/recovery-codes/", two_step_views.recovery_codes, name="recovery_codes"),
    path("two-step/passkeys/add/", two_step_views.passkey_add, name="passkey_add"),
    path("two-step/passkeys/<uuid:passkey_id>/", two_step_views.passkey, name="passkey"),
    path("two-step/passkeys/<uuid:passkey_id>/remove/", two_step_views.passkey_remove, name="passkey_remove"),
    path("devices/", views.session_list, name="session_list"),
    path("devices/<uuid:session_id>/end/", views.session_end, name="session_end"),
    path("activity/", views.activity, name="activity"),
    path("data/", views.data, name="data"),
    path("data/export/", views.export_request, name="export_request"),
    path("data/export/download/", views.export_download, name="export_download"),
    path("delete/", views.deletion_request, name="deletion_request"),
    path("delete/cancel/", views.deletion_cancel, name="deletion_cancel"),
    path("delete/undo/<str:key>/", views.deletion_undo, name="deletion_undo"),
    path("devices/end-others/", views.session_end_others, name="session_end_others"),
]
