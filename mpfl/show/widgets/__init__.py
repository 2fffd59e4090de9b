"""Things to play with: alive with a kernel, and without one on a published page."""
