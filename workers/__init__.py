"""The doors of Dramatiq: a broker, and actors that hold no rule and no SQL."""
