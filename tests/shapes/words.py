"""Names that shapes share."""

PETS = ("cat", "dog")
CONVERT, MIXED = "needs_conversion", "ambiguous_layout"
LISTED, ROWS = "images/{a,b,c,d}.jpg", "a.jpg,cat\nb.jpg,dog\nc.jpg,cat\nd.jpg,dog\n"
