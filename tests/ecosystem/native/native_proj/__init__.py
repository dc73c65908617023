from native_proj.tasks_app import app

__all__ = ["app"]
