"""An experiment, run into a folder."""
