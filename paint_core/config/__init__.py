"""The settings of a fine-tuning run: the paper's, each model family's, and the arithmetic to run in."""
