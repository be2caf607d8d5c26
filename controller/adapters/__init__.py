"""The outside world: database, MQTT broker, Kubernetes, local processes, model files."""
