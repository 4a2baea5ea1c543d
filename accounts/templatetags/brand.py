"""The operator's brand, for pages that have no context too."""

from django import template
from django.conf import settings

from accounts.lib import brand

register = template.Library()


@register.simple_tag
def accent_color() -> str:
    """ "" for our own, which is in account.css."""
    color: str = settings.ACCENT_COLOR
    return color.lower().removeprefix("#") if brand.is_color(color) else ""


@register.simple_tag
def site_logo() -> str:
    return brand.logo()


@register.simple_tag
def support_email() -> str:
    email: str = settings.SUPPORT_EMAIL
    return email
