"""One module per measured claim: ``python -m benchmarks.NAME --json PATH`` prints a table, writes JSON."""
