"""Is this machine fit to serve, and what is to change? A check is a function of the settings."""
