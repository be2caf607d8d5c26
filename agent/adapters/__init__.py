"""The outside world behind the ports: cameras, detector runtimes, MQTT, files on disk."""
