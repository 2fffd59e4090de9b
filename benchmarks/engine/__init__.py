"""What the Flower engine adds: bytes on the wire, memory and time, measured and on paper."""
