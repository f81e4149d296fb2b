"""The project as an app: it brings the commands that run the whole."""

from django.apps import AppConfig


class ProjectConfig(AppConfig):
    name = "embeddings_project"
    label = "embeddings_project"
    verbose_name = "Embeddings server"
