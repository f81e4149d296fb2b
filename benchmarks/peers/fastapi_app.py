"""What many people write first: sentence-transformers behind FastAPI, `uvicorn benchmarks.peers.fastapi_app:app`."""

import os

from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer

app = FastAPI()
model = SentenceTransformer(os.environ["MODEL_FOLDER"], device="cpu")


class Request(BaseModel):
    """OpenAI's body, as far as the benchmark sends it."""

    input: str | list[str]


def create_embeddings(request: Request) -> dict[str, object]:
    """Answer in OpenAI's shape. A plain function: FastAPI runs it in one of its threads."""
    texts = [request.input] if isinstance(request.input, str) else request.input
    vectors = model.encode(texts, normalize_embeddings=True).tolist()
    data = [
        {"object": "embedding", "index": index, "embedding": vector}
        for index, vector in enumerate(vectors)
    ]
    return {"object": "list", "data": data, "model": "all-MiniLM-L6-v2"}


app.add_api_route("/v1/embeddings", create_embeddings, methods=["POST"])
