"""Where Django looks for the console's pages."""

from embeddings import console
from embeddings.console.page import load_pages

load_pages(console)
