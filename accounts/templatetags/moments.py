"""Times as people are told them: {{ at|moment }}."""

from django import template

from accounts.lib import time_zones

register = template.Library()
register.filter("moment", time_zones.moment)
