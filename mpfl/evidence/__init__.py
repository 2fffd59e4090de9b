"""Which runs are behind each table, what they say, and the verdicts that follow."""
