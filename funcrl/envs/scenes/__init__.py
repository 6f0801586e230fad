"""What pictures of environments show where it is more than a few lines: maps, a town, cards, arms."""
