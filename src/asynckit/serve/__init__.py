"""An OpenAI-compatible multi-LoRA server: HTTP, router, model workers and detokenizer, joined by ZeroMQ."""
