"""The ways to sign in, and to prove again who is using a device."""
