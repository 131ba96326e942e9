"""Model repositories behind URLs: fetched into a cache of this machine, and read from there."""
