"""Labels looked after: which are likely to be wrong, and which texts to label next."""
