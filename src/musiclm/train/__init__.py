"""The training loop, whole configurations, and the order in which stages are trained."""
