"""What the server does. Plain Python: no HttpRequest, no REST framework."""
