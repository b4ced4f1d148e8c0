"""What a network emits: characters, pieces of words, words or phones."""
