"""Who somebody says they are and by what they show it: names, codes and links, passwords."""
