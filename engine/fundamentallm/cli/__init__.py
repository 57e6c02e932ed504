"""Train, generate and evaluate from the command line."""
