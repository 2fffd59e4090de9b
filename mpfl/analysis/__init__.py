"""Questions about a vote, answered without training: bytes, faults, chances, privacy, relays."""
