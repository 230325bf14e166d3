"""From a model to traffic: promotion, deployment, ingress."""
