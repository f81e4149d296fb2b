"""The console's pages of documents and jobs."""
