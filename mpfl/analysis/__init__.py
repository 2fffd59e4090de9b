"""Questions to a vote, answered without training: bytes, faults, chances, privacy, relays."""
