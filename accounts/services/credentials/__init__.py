"""Who people claim to be and how they prove it: names, codes and links, passwords."""
