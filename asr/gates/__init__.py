"""A look inside an LSTM: what its gates and cells did while it heard a recording."""
