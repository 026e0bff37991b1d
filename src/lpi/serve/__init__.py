"""The page of `lpi serve`: a web application on this machine, and its files in `static`."""
