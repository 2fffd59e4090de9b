"""What MPFL is measured against: averaging methods, and controls that could refute it."""
