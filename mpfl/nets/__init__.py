"""Networks on torch: defined, traced, cut, trained, exported."""
