"""Events to an MQTT broker: the connection, the topics, Home Assistant's discovery."""
