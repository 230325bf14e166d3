"""From text to trained models: corpora, tasks, the loop, checkpoints, evaluation, export."""
