"""Zones and lines saved to a TOML file that people edit, too."""
