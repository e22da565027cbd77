"""Makes picture libraries: `text2layer dataset library`. `data/library.py` reads them."""
