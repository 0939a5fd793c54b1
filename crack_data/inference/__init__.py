"""From a decoded photo to drawn cracks, their percentage and their measurements."""
