"""The API's paths, below `/api/v1`. A trailing slash is taken off before they are matched."""

from django.urls import path

from embeddings.api.views import (
    administration,
    credentials,
    embeddings,
    models,
    operations,
    usage,
)

urlpatterns = [
    path("embeddings", embeddings.CreateEmbeddings.as_view()),
    path("embeddings/batch", embeddings.CreateEmbeddingBatch.as_view()),
    path("embeddings/models", models.ListModels.as_view()),
    path("embeddings/models/warmup", models.WarmUpModel.as_view()),
    path("embeddings/models/download", models.DownloadModel.as_view()),
    path("embeddings/models/<path:model_id>", models.ShowModel.as_view()),
    path("embeddings/health", operations.ShowHealth.as_view()),
    path("embeddings/cache", administration.ClearCache.as_view()),
    path("embeddings/metrics", administration.ShowMetrics.as_view()),
    path("embeddings/providers-config", administration.ShowProvidersConfig.as_view()),
    path("embeddings/circuit-breakers", administration.ListCircuitBreakers.as_view()),
    path(
        "embeddings/circuit-breakers/<str:provider>/reset",
        administration.ResetCircuitBreaker.as_view(),
    ),
    path("auth/token", credentials.CreateToken.as_view()),
    path("auth/token/refresh", credentials.RenewToken.as_view()),
    path("auth/keys", credentials.Keys.as_view()),
    path("auth/keys/<int:key_id>", credentials.RevokeKey.as_view()),
    path("usage", usage.ShowUsage.as_view()),
    path("models", models.OpenAIListModels.as_view()),
    path("models/<path:model_id>", models.OpenAIShowModel.as_view()),
]
