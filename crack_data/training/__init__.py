"""Training: `crack_data.training.trainer.CrackTrainer` and what it is made of."""
