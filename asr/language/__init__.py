"""n-gram language models: counted, estimated, read, written and asked."""
