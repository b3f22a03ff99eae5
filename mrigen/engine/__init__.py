"""Training and distillation: the loop, its state, the average of weights, sampling."""
