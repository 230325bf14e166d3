"""Search over recipe keys: the space, the search itself, the choice of the winner."""
