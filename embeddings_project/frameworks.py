"""Settings of the frameworks that no environment variable changes."""

from django.templatetags.static import static
from django.urls import reverse_lazy
from django.utils.functional import lazy

from embeddings_project import __version__

AUTH_PASSWORD_VALIDATORS = [
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 10},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"
    },
]
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "embeddings.access.authentication.CallerAuthentication"
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_PARSER_CLASSES": ["embeddings.api.parsers.JSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["embeddings.api.renderers.JSONRenderer"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "embeddings.api.renderers.Negotiation",
    "DEFAULT_SCHEMA_CLASS": "embeddings.api.schema.DocumentedAnswers",
    "EXCEPTION_HANDLER": "embeddings.api.exception_handler.handle",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Embeddings API",
    "DESCRIPTION": "OpenAI-compatible embeddings, answered by local and remote models.",
    "VERSION": __version__,
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PUBLIC": True,
    "SERVE_AUTHENTICATION": [],
    "SERVE_PERMISSIONS": [],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": lazy(static, str)("embeddings/icon.svg"),
    "REDOC_DIST": "SIDECAR",
    "SCHEMA_PATH_PREFIX": r"/api/v1",
    "PREPROCESSING_HOOKS": ["embeddings.api.schema.without_what_is_off"],
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
}
UNFOLD = {
    "SITE_TITLE": "Embeddings console",
    "SITE_HEADER": "Embeddings",
    "SITE_SUBHEADER": "Operator console",
    "SITE_SYMBOL": "scatter_plot",
    "SITE_URL": reverse_lazy("docs"),
    "SITE_FAVICONS": [
        {
            "rel": "icon",
            "type": "image/svg+xml",
            "href": lambda request: static("embeddings/icon.svg"),
        }
    ],
    "SHOW_HISTORY": True,
    "STYLES": [lambda request: static("embeddings/console.css")],
    "SCRIPTS": [lambda request: static("embeddings/console.js")],
    "SIDEBAR": {
        "show_search": True,
        "navigation": "embeddings.console.page.navigation",
    },
    "LOGIN": {"form": "embeddings.access.console_login.GuardedLoginForm"},
}
