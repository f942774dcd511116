"""Where events go: MQTT, webhook, JSON lines, command; they wait on disk until they have arrived."""
