"""Our own pages for staff, styled like Django's admin."""

from django.contrib import admin
from django.urls import path

from accounts.pages.staff import directory, statistics

urlpatterns = [
    path("directory/", admin.site.admin_view(directory.people), name="staff_directory"),
    path("directory/export/", admin.site.admin_view(directory.people_export), name="staff_directory_export"),
    path("statistics/", admin.site.admin_view(statistics.figures), name="staff_statistics"),
]
