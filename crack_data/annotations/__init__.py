"""Components of a clean mask → COCO: their run lengths or polygons, and the JSON itself."""
