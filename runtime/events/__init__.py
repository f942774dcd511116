"""From masks to events: zones, lines and rules; `delivery` takes the events to where they are wanted."""
