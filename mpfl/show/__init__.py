"""What a reader sees: terminal, figures, notebook helpers, widgets."""
