"""Studies: what the paper found, measured again on our own models. `python -m recipes.studies --help`."""
