"""Photos and combined masks → COCO JSON: pairing, reading, cleaning, instances, checks, splits."""
