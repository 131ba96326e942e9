"""What servers answer in time when they are asked for more than they can."""
