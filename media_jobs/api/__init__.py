"""Media over HTTP: the only part of this app that knows REST framework."""
