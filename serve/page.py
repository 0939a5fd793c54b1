"""The page for people: drop a photo, see its cracks."""

from __future__ import annotations

from flask import Blueprint, current_app, render_template

from crack_data.inference.drawing import instance_colour

page = Blueprint("page", __name__)

# As many swatches as the list of instances is likely to need; further rows repeat them.
_SWATCHES = 100


@page.route("/")
def index() -> str:
    """Show the page."""
    colours = (instance_colour(index) for index in range(_SWATCHES))
    return render_template(
        "index.html",
        colours=" ".join(f"#{red:02x}{green:02x}{blue:02x}" for blue, green, red in colours),
        megabytes=round(current_app.config["MAX_CONTENT_LENGTH"] / 1e6),
    )
