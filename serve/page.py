"""The page for people: drop a photo, see its cracks."""

from __future__ import annotations

from flask import Blueprint, render_template

page = Blueprint("page", __name__)


@page.route("/")
def index() -> str:
    """Show the page."""
    return render_template("index.html")
