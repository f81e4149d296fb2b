"""Uploaded files to text. What parses foreign formats runs in a process of its own, with bounds."""
