"""Local inference: weights, tokenizers, runtimes, batching. Used by the local plug-ins only."""
