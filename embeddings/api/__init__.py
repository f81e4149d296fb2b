"""The API over HTTP: URLs, serializers, views, and how vectors and errors look on the wire."""
