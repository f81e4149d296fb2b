"""`make bench`: this server against its peers and against what the processor can do at most."""
