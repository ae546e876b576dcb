"""How the starter is made: fetch pictograms, render and caption them, train a small CLIP, judge it, export it."""
