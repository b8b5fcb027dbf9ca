"""What a served model is asked and answers, watched: whether it is still what its held-out rows were."""
