"""Argon2id with the same cost for all."""

import os

from django.contrib.auth.hashers import Argon2PasswordHasher


class Argon2(Argon2PasswordHasher):
    memory_cost = int(os.environ["ARGON2_MEMORY_KIB"])
    time_cost = int(os.environ["ARGON2_TIME_COST"])
    parallelism = 1
