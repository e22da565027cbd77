"""Two small trained judges: is a mask or a fill good, and does a picture fit its text."""
