"""Where Django looks for the console's pages."""

from embeddings.console.page import load_pages
from media_jobs import console

load_pages(console)
