"""Signed-in devices: their tokens, the keys that sign them, and when MFA is required."""
