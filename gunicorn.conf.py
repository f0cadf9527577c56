"""Gunicorn's configuration: ``gunicorn -c gunicorn.conf.py``.

Settings come from the environment or the settings file, as for
``prompt-processing serve``, which does the same.
"""

from app.web_factory import gunicorn_options
from models.errors import InvalidConfiguration

try:
    globals().update(gunicorn_options())
except InvalidConfiguration as error:
    # Not an exception that Gunicorn would show as a traceback.
    raise SystemExit(f"error: {error}") from None
