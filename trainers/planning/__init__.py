"""What a training will need: the verb `plan`. Nothing is trained, and no Ray started."""
