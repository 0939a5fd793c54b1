"""What measures this project: run by hand, outside the packages."""
