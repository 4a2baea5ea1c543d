"""What knows no user and nothing else of ours."""
