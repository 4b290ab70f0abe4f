"""The five models, a package each: network, losses and training task. None of them imports another."""
