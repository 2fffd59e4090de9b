"""What mpfl costs: ratios measured side by side, one command each. ``make bench`` runs all."""
