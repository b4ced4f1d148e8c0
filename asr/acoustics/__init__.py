"""The same words in other surroundings: noise, rooms, levels."""
