"""The HTTP API (FastAPI). Every module offers ``build_router(…)``; ``app.create_app`` joins them."""
