"""What every rule may need first: the security log, limits on tries, tickets and cursors."""
