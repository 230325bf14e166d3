"""What a model says of rows with labels: records, figures, comparisons, their pages."""
