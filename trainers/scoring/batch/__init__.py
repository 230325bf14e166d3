"""The verb `score`: the rows of files, with a model's answers beside them."""
