"""People for a peer without a sign-up."""

import django

django.setup()

from django.contrib.auth import get_user_model

for number in range(20):
    name = "person" + "".join("abcdefghij"[int(digit)] for digit in str(number))
    get_user_model().objects.create_user(name, f"{name}@example.com", "plum tractor lagoon")
