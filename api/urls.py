"""Mounts each version. A second one is added beside v1 and never replaces it."""

from django.urls import path, re_path

from api import errors
from api.catalogue import catalogue
from api.reference import reference
from api.v1 import api as v1

urlpatterns = [
    path("v1/reference", reference, name="reference"),
    path("v1/", v1.urls),
    path("errors", catalogue, name="errors"),  # the `type` of every problem
    re_path(r"^.*$", errors.no_such_path),
]
