"""The studio: a page in the browser and the HTTP API behind it; `text2layer serve` starts it."""
