"""What pyproject.toml cannot say: templates/ is installed inside embeddings_project, and nothing else at the top."""

from setuptools import find_packages, setup

apps = ("embeddings_project", "embeddings", "media_jobs", "providers")
setup(
    packages=[
        *find_packages(include=[*apps, *(f"{app}.*" for app in apps)]),
        "embeddings_project.templates",
    ],
    package_dir={"embeddings_project.templates": "templates"},
)
