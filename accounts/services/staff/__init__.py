"""What staff and operators do to other accounts, and what they may look at."""
