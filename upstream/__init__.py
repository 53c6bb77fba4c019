__version__ = "0.1.0"  # the build reads it here
