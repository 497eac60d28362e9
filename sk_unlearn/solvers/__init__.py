"""Pure linear algebra: vectors and products in, vectors out. No modules, no data, no scikit-learn."""
