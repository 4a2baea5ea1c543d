"""What people show of themselves: names, languages, pictures; and the files of data copies."""
