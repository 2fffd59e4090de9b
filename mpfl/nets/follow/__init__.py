"""Follow the data: which unit of which layer writes each element of each tensor of a network."""
