"""The account as a whole: sign-up, passwords, addresses, deletion. Start with `lifecycle`."""
