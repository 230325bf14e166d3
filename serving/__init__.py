"""From a model to an endpoint: promotion, engines, the Serve application, deployment."""
